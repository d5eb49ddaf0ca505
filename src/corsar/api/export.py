"""A dataset as the content of UniSAR's eleven files; `sources/unisar_release.py` says what they hold and reads them again.

Row r of a vocabulary becomes item, word or category r, and user r - 1. Numbers that were numbers stay themselves, so that what
is exported, read and exported again is the same. What the layout has no place for is left out and counted.

Legend: N cases of one split and task, F feed events, S searches, K clicks of searches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Ragged
from corsar.data.loader import seed_of
from corsar.data.negatives import Negatives
from corsar.data.release import KEY, ranked
from corsar.data.store import Cases, Dataset
from corsar.errors import DataError
from corsar.evaluate.candidates import stored_sample
from corsar.sources.unisar_release import ATTRIBUTES, CATEGORIES, MOST_CLICKS, MOST_WORDS, PARTS, TASKS
from corsar.vocab import Rows

TRAIN_NEGATIVES, HELD_OUT_NEGATIVES = 4, 99
CASES_AT_ONCE = 100_000
RAW_MOST = 2  # of onehot_feat1 in KuaiSAR's raw files; onehot_feat2 goes beyond
NUMBER = r"^[1-9]\d{0,8}$"
Ints = list[int]


@dataclass
class Exported:
    """What the files hold, by their names."""

    vocab: dict[str, Any]
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)  # file -> column -> values
    sizes: dict[str, int] = field(default_factory=dict)  # by the names that the published code has for them
    lost: list[dict[str, Any]] = field(default_factory=list)  # {"what", "count"}
    notes: list[str] = field(default_factory=list)  # what is told in another way than the dataset tells it

    def lose(self, what: str, count: int) -> None:
        """Count what the layout cannot hold."""
        if count:
            self.lost.append({"what": what, "count": count})


@dataclass(frozen=True)
class _Searches:
    """The searches as the layout holds them."""

    words: list[Ints]  # of each search
    clicks: list[Ints]
    distinct: list[Ints]  # the queries, each once, sorted
    place_K: Rows  # which click of its search each is: 0 is the first


def export_release(dataset: Dataset) -> Exported:
    """The content of the files, and what the layout cannot hold.

    Raises:
        DataError: the dataset has check-ins, or too few items for 99 negatives.
    """
    if "next_place" in dataset.tasks:
        raise DataError(f"'{dataset.path}' holds check-ins, and the layout holds feed and search events; export another one")
    exported = Exported({})
    numbers = _word_numbers(dataset, exported)
    searches = _searches(dataset, numbers, exported)
    _items(dataset, numbers, exported)
    attributes = _attributes(dataset, exported)
    _sessions(dataset, searches, exported)
    exported.vocab["query_vocab"] = searches.distinct
    _users(dataset, searches, attributes, exported)
    for kind, task in TASKS.items():
        for part, split in PARTS.items():
            cases = dataset.cases(split, task)  # type: ignore[arg-type]
            exported.samples[f"{kind}_{part}"] = _samples(dataset, cases, searches, exported)
    exported.sizes |= {"item_id_num": len(dataset.items) + 1, "user_id_num": len(dataset.users)}
    exported.sizes["word_id_num"] = int(numbers.max(initial=0)) + 1
    return exported


def _word_numbers(dataset: Dataset, exported: Exported) -> Rows:
    """The number of each word row: the word itself where all are numbers, else its row; 0 where the layout loses the word.

    A word stays if an item's first words or a training query's have it: no reader of the files could know it from others.
    """
    words = dataset.words.ids(np.arange(1, len(dataset.words) + 1)).cast(pl.String)
    numbers = np.arange(len(words) + 1)
    if len(words) and words.str.contains(NUMBER).all():
        numbers[1:] = words.cast(pl.Int64).to_numpy()
    trained = int(dataset.manifest["counts"]["train_queries"])
    kept = np.zeros(len(numbers), dtype=bool)
    for texts, first in ((dataset.catalogue.item_words, len(dataset.items) + 1), (dataset.history.queries, trained + 1)):
        kept[_cut(Ragged(texts.values, texts.offsets[: first + 1]), MOST_WORDS).values.numpy()] = True
    exported.lose(f"words that only stand behind the first {MOST_WORDS} of a text", int((~kept[1:]).sum()))
    return np.where(kept, numbers, 0)


def _cut(texts: Ragged, most: int) -> Ragged:
    """The first values of each row."""
    lengths = texts.lengths
    owner = torch.repeat_interleave(torch.arange(len(texts)), lengths)
    inside = torch.arange(len(owner)) + texts.offsets[0] - texts.offsets[owner]
    kept = inside < most
    values = texts.values[int(texts.offsets[0]) : int(texts.offsets[-1])][kept]
    return Ragged(values, torch.nn.functional.pad(lengths.clamp(max=most).cumsum(0), (1, 0)))


def _lists(texts: Ragged, numbers: Rows, most: int) -> tuple[list[Ints], int]:
    """The first values of each row as numbers, those without one left out, and how many rows are longer."""
    cut = _cut(texts, most)
    values, ends = numbers[cut.values.numpy()].tolist(), cut.offsets.tolist()
    found = [[one for one in values[start:end] if one] for start, end in pairwise(ends)]
    return found, int((texts.lengths > most).sum())


def _matrix(rows: list[Ints], width: int) -> Rows:
    """The rows with zeros behind, [rows, width]."""
    matrix = np.zeros((len(rows), width), dtype=np.int64)
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    matrix[np.arange(width) < lengths[:, None]] = np.fromiter((one for row in rows for one in row), dtype=np.int64)
    return matrix


def _searches(dataset: Dataset, numbers: Rows, exported: Exported) -> _Searches:
    history = dataset.history
    texts, _ = _lists(history.queries, numbers, MOST_WORDS)
    queries = history.search_queries.tolist()
    exported.lose(f"queries of more than {MOST_WORDS} words, cut", int((history.queries.lengths > MOST_WORDS).sum()))
    clicks, longer = _lists(history.search_clicks, np.arange(len(dataset.items) + 1), MOST_CLICKS)
    exported.lose(f"searches with more than {MOST_CLICKS} clicks, cut", longer)
    offsets = history.search_clicks.offsets.numpy()
    place_K = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    exported.lose(f"clicks after the first {MOST_CLICKS} of their search", int((place_K >= MOST_CLICKS).sum()))
    words = [texts[query] for query in queries]
    return _Searches(words, clicks, sorted([list(one) for one in {tuple(one) for one in words} if one]), place_K)


def _codes(column: dict[str, Any], codes: Rows, lowest: int) -> Rows:
    """The values of a column of the catalogue where all are whole numbers from `lowest` on, else their codes; 0 = unknown."""
    values = column["values"]
    if all(isinstance(one, int) and one >= lowest for one in values):
        return np.array([0, *values], dtype=np.int64)[codes]
    return codes


def _column(dataset: Dataset, what: str, name: str, table: Any, lowest: int) -> Rows | None:
    names = [column["name"] for column in dataset.manifest[what]]
    if name not in names:
        return None
    at = names.index(name)
    return _codes(dataset.manifest[what][at], table[:, at].numpy(), lowest)


def _items(dataset: Dataset, numbers: Rows, exported: Exported) -> None:
    catalogue = dataset.catalogue
    captions, longer = _lists(catalogue.item_words, numbers, MOST_WORDS)
    exported.lose(f"items with more than {MOST_WORDS} words, cut", longer)
    told: dict[str, Rows] = {"caption": _matrix(captions, MOST_WORDS)}
    columns = [column["name"] for column in dataset.manifest["categories"]]
    # other data has other names: its first two columns stand for the two levels
    mine = dict(zip(CATEGORIES, CATEGORIES if set(CATEGORIES) & set(columns) else [*columns, *CATEGORIES], strict=False))
    for level, name in mine.items():
        values = _column(dataset, "categories", name, catalogue.item_categories, 1)
        told[level] = np.zeros(len(dataset.items) + 1, dtype=np.int64) if values is None else values
        exported.sizes[f"{level}_num"] = int(told[level].max(initial=0)) + 1
    exported.lose("further category columns of items", len(set(columns) - set(mine.values())))
    exported.vocab["item_vocab_np"] = told


def _attributes(dataset: Dataset, exported: Exported) -> dict[str, Rows]:
    table, names = dataset.catalogue.user_attributes, [column["name"] for column in dataset.manifest["attributes"]]
    told: dict[str, Rows] = {}
    for name in ATTRIBUTES:
        values = _column(dataset, "attributes", name, table, 0)
        told[name] = np.zeros(len(dataset.users), dtype=np.int64) if values is None else values[1:]
        if values is not None:
            unknown = int((table[1:, names.index(name)] == 0).sum())
            exported.lose(f"users whose {name} is unknown, now 0", unknown)
    exported.lose("further attribute columns of users", len(set(names) - set(ATTRIBUTES)))
    one, two = told["onehot_feat1"], told["onehot_feat2"]
    if one.max(initial=0) <= RAW_MOST < two.max(initial=0):  # the published code has room for 8 values and 3
        told |= {"onehot_feat1": two, "onehot_feat2": one}
        exported.notes.append("onehot_feat1 and onehot_feat2 are swapped, as in the published files; in KuaiSAR's they are not")
    exported.sizes |= {f"{name}_num": int(values.max(initial=0)) + 1 for name, values in told.items()}
    exported.vocab["user_vocab_np"] = told
    return told


def _sessions(dataset: Dataset, searches: _Searches, exported: Exported) -> None:
    exported.vocab["src_session_vocab_np"] = {
        "keyword": _matrix([[], *searches.words], MOST_WORDS),
        "pos_items": _matrix([[], *searches.clicks], MOST_CLICKS),
    }


def _users(dataset: Dataset, searches: _Searches, attributes: dict[str, Rows], exported: Exported) -> None:
    history = dataset.history
    items, known = history.feed_items.tolist(), history.feed_items > 0
    exported.lose("feed events of items that the catalogue lacks", int((~known).sum()))
    feed_times, search_times = history.feed_times.double().tolist(), history.search_times.double().tolist()
    feed_others, search_others = history.feed_others.tolist(), history.search_others.tolist()
    feed_ends, search_ends = history.feed_offsets.tolist(), history.search_offsets.tolist()
    users: dict[int, dict[str, Any]] = {}
    for row in range(1, len(dataset.users) + 1):
        user = row - 1
        feeds = [at for at in range(feed_ends[row], feed_ends[row + 1]) if items[at]]
        own = range(search_ends[row], search_ends[row + 1])
        places: list[tuple[int, int, float, Any]] = [
            (at - feed_ends[row] + feed_others[at], items[at], feed_times[at], 0) for at in feeds
        ]
        places += [(at - search_ends[row] + search_others[at], 0, search_times[at], searches.words[at]) for at in own]
        places.sort(key=lambda one: one[0])
        clicks = [(item, at) for at in own for item in searches.clicks[at]]
        users[user] = {
            "user_id": user,
            **{name: int(values[user]) for name, values in attributes.items()},
            "rec_his": [items[at] for at in feeds],
            "rec_his_ts": [feed_times[at] for at in feeds],
            "src_session_his": [at + 1 for at in own],
            "src_session_his_ts": [search_times[at] for at in own],
            "src_his": [item for item, _ in clicks],
            "src_his_ts": [search_times[at] for _, at in clicks],
            "src_his_query": [searches.words[at] for _, at in clicks],
            "all_his": [item for _, item, _, _ in places],
            "all_his_ts": [time for _, _, time, _ in places],
            "all_his_query": [words for _, _, _, words in places],
        }
    exported.vocab["user_vocab"] = users


def _samples(dataset: Dataset, cases: Cases, searches: _Searches, exported: Exported) -> dict[str, Any]:
    """The columns of one file of samples."""
    history, what = dataset.history, f"{cases.task} samples of {cases.split}"
    known = torch.nn.functional.pad((history.feed_items > 0).cumsum(0), (1, 0))  # known feed events before each place
    rows = torch.arange(len(cases))
    words: list[Ints] = []
    if cases.task == "search":
        place_N, search_N = _own_clicks(dataset, cases, searches)
        rows = rows[torch.from_numpy(place_N < MOST_CLICKS)]
        exported.lose(f"{what} whose click is left out", len(cases) - len(rows))
        words = [searches.words[at] for at in search_N[rows.numpy()].tolist()]
    negatives_NC = _negatives(dataset, cases)[rows]
    if (negatives_NC == 0).any():
        raise DataError(
            f"{what} need {negatives_NC.shape[1]} items apart from their user's own, and the catalogue has"
            f" {len(dataset.items)}; bring more items"
        )
    cases = cases.take(rows)
    columns: dict[str, Any] = {
        "user_id": cases.user_N.numpy() - 1,
        "item_id": cases.item_N.numpy(),
        "neg_items": _objects(negatives_NC.tolist()),
        "rec_his": (known[cases.feed_end_N] - known[history.feed_offsets[cases.user_N]]).numpy(),
        "src_session_his": (cases.search_end_N - history.search_offsets[cases.user_N]).numpy(),
    }
    return columns if cases.task == "recommend" else columns | {"keyword": _objects(words)}


def _objects(lists: list[Ints]) -> np.ndarray[Any, Any]:
    """An array of lists; numpy would make a matrix of lists of one length."""
    array = np.empty(len(lists), dtype=object)
    for at, one in enumerate(lists):
        array[at] = one
    return array


def _own_clicks(dataset: Dataset, cases: Cases, searches: _Searches) -> tuple[Rows, Rows]:
    """Which click of which search each case is, [N] both: clicks of all splits stand in the order of their cases."""
    history = dataset.history
    user_S = torch.repeat_interleave(history.search_offsets.diff())
    search_K = torch.repeat_interleave(history.search_clicks.lengths)
    clicks = {"user": user_S[search_K], "time": history.search_times[search_K], "item": history.search_clicks.values}
    table = ranked(pl.DataFrame({name: values.numpy() for name, values in clicks.items()}))
    table = table.with_columns(place=searches.place_K, search=search_K.numpy())
    asked = {"user": cases.user_N, "time": cases.time_N, "item": cases.item_N}
    own = ranked(pl.DataFrame({name: values.numpy() for name, values in asked.items()}))
    found = own.join(table, on=[*KEY, "rank"], how="left", maintain_order="left")
    return found["place"].to_numpy(), found["search"].to_numpy()


def _negatives(dataset: Dataset, cases: Cases) -> torch.Tensor:
    """The negatives of each case: those that the dataset has; else what `sampled:99` has, and fixed draws for training."""
    if cases.negatives_NC is not None:
        return cases.negatives_NC
    if cases.split != "train":
        return stored_sample(dataset, cases, HELD_OUT_NEGATIVES)
    events, parts = dataset.train_events(), [torch.zeros((0, TRAIN_NEGATIVES), dtype=torch.int64)]
    negatives = Negatives.of(events.user_E, events.item_E, len(dataset.users), len(dataset.items))
    for start in range(0, len(cases), CASES_AT_ONCE):
        rows = torch.arange(start, min(start + CASES_AT_ONCE, len(cases)))
        some, key = cases.take(rows), seed_of(0, "release", cases.task)
        parts.append(negatives.draw(rows, some.user_N, some.item_N, TRAIN_NEGATIVES, key, some.mates))
    return torch.cat(parts)
