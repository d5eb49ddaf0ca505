"""Batches of cases. A training step is a pure function of (seed, epoch, step): a resumed run draws the same.

Legend: B cases of a batch, N negatives, C candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from corsar.batch import Catalogue, Ragged, SearchRecommendBatch, Task
from corsar.config import DataSection, TrainSection
from corsar.data.negatives import Negatives
from corsar.data.store import Cases, Dataset
from corsar.errors import DataError
from corsar.places import Places, hour_of_week
from corsar.windows import History, make_batch, make_place_batch


def seed_of(*parts: int | str) -> int:
    """A seed in 0 … 2**62 - 1 that depends on the parts alone, on any machine."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 2


def _own_ends(data: DataSection, history: History, cases: Cases) -> tuple[Tensor, Tensor]:
    """Ends of the two histories; with `history = "own"` that of the other kind is empty."""
    feed_end, search_end = cases.feed_end_N, cases.search_end_N
    if data.history == "own" and cases.task == "recommend":
        search_end = history.search_offsets[cases.user_N]
    elif data.history == "own":
        feed_end = history.feed_offsets[cases.user_N]
    return feed_end, search_end


def _batch(
    history: History,
    catalogue: Catalogue,
    cases: Cases,
    candidates_BC: Tensor,
    data: DataSection,
    align: tuple[Tensor, Tensor] | None = None,
    places: Places | None = None,
    drawn_N: Tensor | None = None,
) -> SearchRecommendBatch:
    if places is not None:
        hour_B = _target_hours(history, places, cases) if data.target_time else None
        return make_place_batch(
            history, places, catalogue, cases.user_N, cases.feed_end_N, candidates_BC, hour_B,
            length=data.feed_len, drawn_N=drawn_N,
        )  # fmt: skip
    feed_end_B, search_end_B = _own_ends(data, history, cases)
    return make_batch(
        cases.task,
        history,
        catalogue,
        cases.user_N,
        feed_end_B,
        search_end_B,
        candidates_BC,
        cases.query_N if cases.task == "search" else None,
        feed_len=data.feed_len,
        search_len=data.search_len,
        align_items_N=None if align is None else align[0],
        align_queries_N=None if align is None else align[1],
    )


def _target_hours(history: History, places: Places, cases: Cases) -> Tensor:
    """Local hour of the week of each target, by its own clock: it is the first entry that is no history."""
    return hour_of_week(cases.time_N, places.offsets_min[cases.feed_end_N])


class TrainLoader:
    """Joint training steps over the tasks; all arrays lie on the device, and a step is cut from them there."""

    def __init__(
        self, dataset: Dataset, data: DataSection, train: TrainSection, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self._data, self._train, self._seed, self._device = data, train, seed, torch.device(device)
        self.history = dataset.history.to(device)
        self.catalogue = dataset.catalogue.to(device)
        self.places = dataset.places.to(device) if "next_place" in train.tasks and "next_place" in dataset.tasks else None
        num_items = self.catalogue.num_items
        if num_items < 2:
            raise DataError(f"the dataset has {num_items} items; training needs two or more, so bring more events")
        self._num_train_queries = int(dataset.manifest["counts"]["train_queries"])
        events = dataset.train_events().to(device)
        had = 0 if self.places else len(events.user_E)  # a place that a person knows may be a negative
        self._negatives = Negatives.of(events.user_E[:had], events.item_E[:had], len(dataset.users), num_items)
        self._cases: dict[Task, Cases] = {}
        self._strangers: dict[Task, bool] = {}  # has a case a session mate that is not in the user's training part?
        self._orders: dict[Task, tuple[int, Tensor]] = {}
        for task in train.tasks:
            cases = dataset.cases("train", task).to(device)
            if data.require_both_histories:
                cases = cases.take(cases.both_histories(self.history))
            if not len(cases):
                both = " with both histories" if data.require_both_histories else ""
                raise DataError(f"there are no training cases of {task}{both}; leave {task} out of train.tasks")
            self._cases[task] = cases
            self._strangers[task] = self._has_strangers(cases)
        self.num_cases = {task: len(cases) for task, cases in self._cases.items()}
        self.steps_per_epoch = -(-self.num_cases[train.tasks[0]] // train.batch_size)

    def _has_strangers(self, cases: Cases) -> bool:
        if cases.task == "next_place":
            return True
        together = cases.take(cases.group_N > 0)
        mates = together.mates
        user = torch.repeat_interleave(together.user_N, mates.lengths)
        return bool((~self._negatives.has(user, mates.values)).any())

    def _forbidden(self, cases: Cases) -> Ragged:
        """What may be no negative of each case: session mates, and the target of next_place."""
        mates = cases.mates
        if self.places is None:
            return mates
        own = torch.arange(len(cases), device=self._device)
        owner = torch.cat([own, torch.repeat_interleave(mates.lengths)])
        order = owner.argsort(stable=True)
        values = torch.cat([cases.item_N, mates.values])[order]
        return Ragged(values, torch.nn.functional.pad((mates.lengths + 1).cumsum(0), (1, 0)))

    def _rows(self, task: Task, epoch: int, step: int) -> Tensor:
        """Case numbers of a step: the epoch's permutation, cut into equal parts, one a step."""
        num = self.num_cases[task]
        if self._orders.get(task, (-1, None))[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self._seed, "order", task, epoch))
            self._orders[task] = (epoch, torch.randperm(num, generator=generator).to(self._device))
        start, end = (num * at // self.steps_per_epoch for at in (step, step + 1))
        return self._orders[task][1][start:end]

    def _align(self, task: Task, epoch: int, step: int) -> tuple[Tensor, Tensor] | None:
        """Item rows and training query rows for the query-item alignment; None where nobody searched."""
        if self._num_train_queries == 0:
            return None
        generator = torch.Generator().manual_seed(seed_of(self._seed, "align", task, epoch, step))
        highest = (self.catalogue.num_items, self._num_train_queries)
        shape = (self._train.align_negatives,)
        items, queries = (torch.randint(1, high + 1, shape, generator=generator).to(self._device) for high in highest)
        return items, queries

    def _drawn(self, task: Task, epoch: int, step: int) -> Tensor | None:
        """Distinct places that a step tells its targets from; None for the whole catalogue, where that is no larger."""
        num_items, num = self.catalogue.num_items, self._train.drawn_places
        if self.places is None or num_items <= num:
            return None
        generator = torch.Generator().manual_seed(seed_of(self._seed, "places", task, epoch, step))
        return torch.randperm(num_items, generator=generator)[:num].to(self._device) + 1

    def step(self, epoch: int, step: int) -> dict[Task, SearchRecommendBatch]:
        """The batches of one joint step; column 0 of the candidates is the target.

        A task with fewer cases than there are steps has no batch in some of them.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise ValueError(f"step must lie in 0 … {self.steps_per_epoch - 1}, not {step}")
        batches = {}
        for task, cases in self._cases.items():
            rows = self._rows(task, epoch, step)
            if not len(rows):
                continue
            chosen = cases.take(rows)
            drawn_in = 0 if self._train.negatives == "static" else epoch
            negatives_BN = self._negatives.draw(
                rows,
                chosen.user_N,
                chosen.item_N,
                self._train.num_negatives,
                seed_of(self._seed, "negatives", task, drawn_in),
                self._forbidden(chosen) if self._strangers[task] else None,
            )
            candidates_BC = torch.cat([chosen.item_N[:, None], negatives_BN], 1)
            align = self._align(task, epoch, step)
            drawn_N = self._drawn(task, epoch, step)
            batches[task] = _batch(self.history, self.catalogue, chosen, candidates_BC, self._data, align, self.places, drawn_N)
        return batches


def case_batches(
    dataset: Dataset,
    cases: Cases,
    candidates_NC: Tensor | None,
    data: DataSection,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Iterator[SearchRecommendBatch]:
    """Batches of the cases in their order, for evaluation.

    Args:
        candidates_NC: item rows, the target in column 0; None = the whole catalogue, [target, all other items].
    """
    history, catalogue, cases = dataset.history.to(device), dataset.catalogue.to(device), cases.to(device)
    places = dataset.places.to(device) if cases.task == "next_place" else None
    others = torch.arange(1, catalogue.num_items, device=torch.device(device))
    for start in range(0, len(cases), batch_size):
        rows = torch.arange(start, min(start + batch_size, len(cases)), device=others.device)
        chosen = cases.take(rows)
        if candidates_NC is None:
            target_B1 = chosen.item_N[:, None]
            candidates_BC = torch.cat([target_B1, others + (others >= target_B1)], 1)
        else:
            candidates_BC = candidates_NC[start : start + batch_size].to(device)
        yield _batch(history, catalogue, chosen, candidates_BC, data, places=places)
