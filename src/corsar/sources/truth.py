"""The truth of simulated logs: what an app's users like, and how one channel follows the other.

A user likes some topics in the feed, and, drawn independently, some in the search box; each channel has a current interest
that now and then is drawn anew from them. An event copies the topic of the last event of the other kind with probability
`transfer` (where there is one), else it has its own channel's current interest. At `transfer` 0 the channels do not know of
each other, and all else stays as it was. Two numbers are that of feed events and that of searches: (0, 0.6) lets searches
follow the feed, and the feed nothing.

The defaults were fixed before any model saw these logs; `truth_hash()` names them.

Shape suffixes: U users, S places in a user's order of events, L liked topics, E events, 2 the kinds (feed, search).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

START_MS = 1_684_684_800_000  # Monday 22 May 2023, 00:00 in Beijing
DAY_MS = 86_400_000
FEED, SEARCH = 0, 1


@dataclass(frozen=True)
class Truth:
    """How the simulated app works; probabilities unless said otherwise."""

    items: int = 1000
    topics: int = 30
    topics_per_group: int = 5  # a group is a first-level category, a topic a second-level one
    transfer: float | tuple[float, float] = 0.6  # an event copies the topic of the last event of the other kind
    sticky: float = 0.3  # a channel's current interest stays for its next event
    liked: tuple[float, ...] = (0.3, 0.25, 0.2, 0.15, 0.1)  # how much a user likes each of their topics of a channel
    popularity: float = 1.0  # the item at place r of its topic is drawn with weight r ** -popularity
    topic_words: int = 8
    group_words: int = 6
    common_words: int = 100
    broad_query: float = 0.5  # a query word belongs to the group, not to the topic alone
    second_word: float = 0.5
    mean_events: float = 50.0  # of a user: pages and searches, log-normal
    spread_events: float = 0.4
    fewest_events: int = 12
    most_events: int = 150
    search_share: tuple[float, float] = (6.0, 7.0)  # of a user's events, beta
    clicks: tuple[float, float] = (0.85, 0.7)  # a page, a search gets a click
    more_rows: tuple[float, float] = (0.3, 0.5)  # each of two more items is shown beside the first
    on_topic: tuple[float, float] = (0.3, 1.0)  # such an item is of the event's topic
    more_clicks: float = 0.15  # such an item is clicked too, where it is of the topic and the first one is clicked
    days: int = 14
    weekend: float = 1.3  # events of a Saturday or Sunday for one of another day
    hours: tuple[int, ...] = (4, 2, 1, 1, 1, 2, 4, 6, 7, 7, 8, 9, 12, 11, 8, 7, 7, 8, 10, 13, 15, 16, 13, 8)  # weights

    def transfers(self) -> tuple[float, float]:
        """`transfer` of a feed event and of a search."""
        return self.transfer if isinstance(self.transfer, tuple) else (self.transfer, self.transfer)


DEFAULTS = Truth()


def truth_hash(truth: Truth = DEFAULTS) -> str:
    """Twelve hex digits that change with any number of the truth."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(truth), sort_keys=True).encode()).hexdigest()[:12]


class World(NamedTuple):
    """The items: sorted by topic, so that `reach` rises; an item is drawn by its topic plus a number from 0 to 1."""

    topics: Ints  # [items]
    reach: NDArray[np.float64]  # [items], topic + share of the topic's popularity up to and with this item
    ids: Ints  # [items], what the logs call them

    def draw(self, topics: Ints, rng: np.random.Generator) -> Ints:
        """An item (its position) of each topic."""
        return np.minimum(np.searchsorted(self.reach, topics + rng.random(topics.shape)), len(self.ids) - 1)


class Events(NamedTuple):
    """One entry a page or search, in order of user and time."""

    user: Ints
    time_ms: Ints
    kind: Ints
    topic: Ints
    clicked: Bools
    then_search: Bools  # the user's next event is a search
    then_related: Bools  # and it copies this one's topic


def _words(truth: Truth, topics: Ints, which: Ints, broad: Bools) -> Ints:
    """Word numbers: those common to all come first, then those of the groups, then those of the topics."""
    groups = -(-truth.topics // truth.topics_per_group)
    of_group = truth.common_words + topics // truth.topics_per_group * truth.group_words + which % truth.group_words
    of_topic = truth.common_words + groups * truth.group_words + topics * truth.topic_words + which % truth.topic_words
    return 1 + np.where(broad, of_group, of_topic)


def draw_items(truth: Truth, rng: np.random.Generator) -> tuple[World, pl.DataFrame]:
    topics = np.sort(np.arange(truth.items) % truth.topics)
    places = np.arange(truth.items) - np.searchsorted(topics, topics) + 1
    weights = places**-truth.popularity
    totals = np.bincount(topics, weights)
    until = np.cumsum(weights)
    reach = topics + (until - (np.cumsum(totals) - totals)[topics]) / totals[topics]
    world = World(topics, reach, rng.permutation(truth.items) + 1)

    own = rng.random((truth.items, truth.topic_words)).argsort(1)[:, :3]
    words = np.column_stack(
        [
            *(_words(truth, topics, own[:, place], np.zeros(truth.items, bool)) for place in range(3)),
            _words(truth, topics, rng.integers(0, truth.group_words, truth.items), np.ones(truth.items, bool)),
            rng.integers(1, truth.common_words + 1, (truth.items, 2)),
        ]
    )
    columns: dict[str, object] = {
        "item_id": world.ids,
        "caption": [str(row) for row in words.tolist()],
        "author_id": rng.integers(1, truth.items // 5 + 2, truth.items),
        "item_type": ["NORMAL"] * truth.items,
        "upload_time": ["2023-05-01"] * truth.items,
        "upload_type": ["ShortImport"] * truth.items,
    }
    levels = {"first": topics // truth.topics_per_group, "second": topics, "third": topics, "fourth": topics}
    for level, ids in levels.items():
        columns[f"{level}_level_category_id"] = ids + 1
        columns[f"{level}_level_category_name"] = [f"{level} {one}" for one in ids + 1]
        columns[f"{level}_level_category_name_en"] = [f"{level} {one}" for one in ids + 1]
    return world, pl.DataFrame(columns).sort("item_id")


def _times(truth: Truth, count_U: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Times of each user's events, rising strictly, [U, most]; those from a user's count on are not meant."""
    days = np.where(np.arange(truth.days) % 7 >= 5, truth.weekend, 1.0).cumsum()
    hours = np.cumsum(truth.hours) / np.sum(truth.hours)
    size = (len(count_U), most)
    day = np.searchsorted(days / days[-1], rng.random(size)).clip(max=truth.days - 1)
    hour = np.searchsorted(hours, rng.random(size)).clip(max=23)
    times = START_MS + day * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, size)
    meant = np.arange(most) < count_U[:, None]
    times = np.sort(np.where(meant, times, np.iinfo(np.int64).max // 2), axis=1)
    steps = np.arange(most) * 1000
    return np.maximum.accumulate(times - steps, axis=1) + steps


def live(truth: Truth, user_U: Ints, rng: np.random.Generator) -> tuple[Ints, Events]:
    """The topics that users like, [2, U, liked], and all their events; one step a place in the users' order."""
    users, at = len(user_U), np.arange(len(user_U))
    count = rng.lognormal(np.log(truth.mean_events) - truth.spread_events**2 / 2, truth.spread_events, users)
    count_U = count.astype(np.int64).clip(truth.fewest_events, truth.most_events)
    most = int(count_U.max())
    times_US = _times(truth, count_U, most, rng)
    kind_US = (rng.random((users, most)) < rng.beta(*truth.search_share, users)[:, None]).astype(np.int64)
    clicked_US = rng.random((users, most)) < np.take(truth.clicks, kind_US)
    likes_2UL = rng.random((2, users, truth.topics)).argsort(2)[..., : len(truth.liked)]
    taste = np.cumsum(truth.liked) / np.sum(truth.liked)

    def fresh(shape: tuple[int, ...]) -> Ints:
        return np.searchsorted(taste, rng.random(shape)).clip(max=len(taste) - 1)

    interest_2U = np.take_along_axis(likes_2UL, fresh((2, users, 1)), 2)[..., 0]
    last_2U = np.full((2, users), -1)
    topic_US, copied_US = np.zeros((users, most), np.int64), np.zeros((users, most), bool)
    for step in range(most):
        kind = kind_US[:, step]
        drawn = likes_2UL[kind, at, fresh((users,))]
        interest_2U[kind, at] = np.where(rng.random(users) < truth.sticky, interest_2U[kind, at], drawn)
        other = last_2U[1 - kind, at]
        copied = (rng.random(users) < np.take(truth.transfers(), kind)) & (other >= 0)
        topic = np.where(copied, other, interest_2U[kind, at])
        seen = (kind == SEARCH) | clicked_US[:, step]  # a page without a click leaves nothing to copy
        last_2U[kind, at] = np.where(seen, topic, last_2U[kind, at])
        topic_US[:, step], copied_US[:, step] = topic, copied
    meant_US = np.arange(most) < count_U[:, None]
    search_next_US = np.zeros((users, most), bool)
    search_next_US[:, :-1] = (kind_US == SEARCH)[:, 1:] & meant_US[:, 1:]
    related_US = np.zeros((users, most), bool)
    related_US[:, :-1] = search_next_US[:, :-1] & copied_US[:, 1:] & clicked_US[:, :-1]
    events = Events(
        user=np.repeat(user_U, count_U),
        time_ms=times_US[meant_US],
        kind=kind_US[meant_US],
        topic=topic_US[meant_US],
        clicked=clicked_US[meant_US],
        then_search=search_next_US[meant_US],
        then_related=related_US[meant_US],
    )
    return likes_2UL, events


def shown_rows(truth: Truth, world: World, events: Events, rng: np.random.Generator) -> pl.DataFrame:
    """One row an item shown; the first of an event is of its topic, and clicked where the event is."""
    shown_E = 1 + rng.binomial(2, np.take(truth.more_rows, events.kind))
    event = np.repeat(np.arange(len(shown_E)), shown_E)
    is_first = np.r_[True, event[1:] != event[:-1]]
    on_topic = is_first | (rng.random(len(event)) < np.take(truth.on_topic, events.kind[event]))
    topic = np.where(on_topic, events.topic[event], rng.integers(0, truth.topics, len(event)))
    more = on_topic & (rng.random(len(event)) < truth.more_clicks)
    broad_2E = rng.random((2, len(shown_E))) < truth.broad_query
    which_2E = rng.integers(0, truth.topic_words * truth.group_words, (2, len(shown_E)))
    word_2E = _words(truth, events.topic, which_2E, broad_2E)
    second_E = (rng.random(len(shown_E)) < truth.second_word) & (word_2E[0] != word_2E[1])
    columns = {name: values[event] for name, values in events._asdict().items()}
    columns |= {"event": event, "item_id": world.ids[world.draw(topic, rng)], "is_first": is_first}
    columns |= {"clicked": events.clicked[event] & (is_first | more), "first_word": word_2E[0, event]}
    columns |= {"second_word": word_2E[1, event], "has_second": second_E[event]}
    return pl.DataFrame(columns).unique(("event", "item_id"), keep="first", maintain_order=True)
