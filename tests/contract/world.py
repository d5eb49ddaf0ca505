"""A small world for the contract tests: flat tables with empty, short and full histories, and batches cut from them."""

from __future__ import annotations

import torch
from torch import Tensor

from corsar.batch import Catalogue, Ragged, SearchRecommendBatch, Sizes, Task, TrainEvents
from corsar.places import Places
from corsar.windows import History, make_batch, make_place_batch

FEED_LEN, SEARCH_LEN, NUM_ITEMS, NUM_WORDS = 5, 4, 23, 13
# feed events and searches of each user row (row 0 pads): both, none, feed alone, searches alone, longer than the windows
COUNTS = [(0, 0), (3, 2), (0, 0), (4, 0), (0, 3), (9, 7), (1, 1), (5, 4)]
SIZES = Sizes(len(COUNTS) - 1, NUM_ITEMS, NUM_WORDS, (3, 4), (2,), FEED_LEN, SEARCH_LEN)


def world(seed: int = 0) -> tuple[History, Catalogue, TrainEvents]:
    """History, catalogue and training events of seven users."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(1, high + 1, shape, generator=g)

    feed_items, feed_others, feed_times, search_others, search_times = [], [], [], [], []
    clicks: list[list[int]] = []
    users, items, kinds = [], [], []
    for user, (feeds, searches) in enumerate(COUNTS):
        is_search = torch.tensor([False] * feeds + [True] * searches)[torch.randperm(feeds + searches, generator=g)]
        for time, searching in enumerate(is_search.tolist()):
            if searching:
                search_times.append(time)
                search_others.append(int((~is_search[:time]).sum()))
                clicks.append(draw(NUM_ITEMS, int(draw(4)) - 1).tolist())
                items += clicks[-1]
                users += [user] * len(clicks[-1])
                kinds += [True] * len(clicks[-1])
            else:
                feed_times.append(time)
                feed_others.append(int(is_search[:time].sum()))
                feed_items.append(int(draw(NUM_ITEMS)))
                items.append(feed_items[-1])
                users.append(user)
                kinds.append(False)
    counts = torch.tensor(COUNTS)
    queries = Ragged.of([[], *[draw(NUM_WORDS, 1 + q % 3).tolist() for q in range(6)]])
    history = History(
        feed_items=torch.tensor(feed_items),
        feed_times=torch.tensor(feed_times),
        feed_others=torch.tensor(feed_others),
        feed_offsets=torch.nn.functional.pad(counts[:, 0].cumsum(0), (1, 0)),
        search_queries=draw(6, len(search_times)),
        search_clicks=Ragged.of(clicks),
        search_times=torch.tensor(search_times),
        search_others=torch.tensor(search_others),
        search_offsets=torch.nn.functional.pad(counts[:, 1].cumsum(0), (1, 0)),
        queries=queries,
    )
    catalogue = Catalogue(
        item_words=Ragged.of([[], *[draw(NUM_WORDS, i % 4).tolist() for i in range(NUM_ITEMS)]]),
        item_categories=torch.stack([draw(3, NUM_ITEMS + 1), draw(4, NUM_ITEMS + 1)], 1) - 1,
        user_attributes=draw(3, len(COUNTS), 1) - 1,
    )
    events = TrainEvents(torch.tensor(users), torch.tensor(items), torch.tensor(kinds))
    return history, catalogue, events


def places(entries: int, seed: int = 1) -> Places:
    """Places within a few kilometres of each other, one of them nowhere, and clocks of two zones."""
    g = torch.Generator().manual_seed(seed)
    lat_lon_deg = torch.tensor([51.0, -114.0]) + 0.05 * torch.rand(NUM_ITEMS + 1, 2, generator=g, dtype=torch.float64)
    lat_lon_deg[[0, 7]] = torch.nan
    return Places(lat_lon_deg, torch.randint(-7, -5, (entries,), generator=g) * 60)


def batch_of(
    task: Task, users: list[int], *, feed_len: int = FEED_LEN, search_len: int = SEARCH_LEN, candidates: int = 6
) -> SearchRecommendBatch:
    """The cases of the given user rows with their whole history; what a user gets depends on the user alone."""
    history, catalogue, _ = world()
    user_B = torch.tensor(users)
    candidates_BC = (user_B[:, None] * 5 + torch.arange(candidates) * 3) % NUM_ITEMS + 1
    if task == "next_place":
        candidates_BC = (candidates_BC + 2) % NUM_ITEMS + 1  # the target of the longest history has a category
        return make_place_batch(
            history, places(len(history.feed_items)), catalogue, user_B, history.feed_offsets[user_B + 1], candidates_BC,
            length=2 * feed_len,  # long enough that Auto-Correlation has lags to choose from
        )  # fmt: skip
    return make_batch(
        task, history, catalogue, user_B, history.feed_offsets[user_B + 1], history.search_offsets[user_B + 1],
        candidates_BC, user_B % 6 + 1 if task == "search" else None, feed_len=feed_len, search_len=search_len,
        align_items_N=torch.arange(1, 8), align_queries_N=torch.arange(1, 6),
    )  # fmt: skip
