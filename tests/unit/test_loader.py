from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from corsar.batch import Ragged, SearchRecommendBatch
from corsar.config import DataSection, TrainSection
from corsar.data.build import build_dataset
from corsar.data.loader import TrainLoader, case_batches
from corsar.data.negatives import Negatives, hashed
from corsar.data.store import Dataset, open_dataset
from corsar.errors import DataError
from corsar.schema import make_tables

NUM_ITEMS = 25


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 users of 12 events; every third is a search, and of every fourth user no event is."""
    rows = [
        {
            "user_id": user,
            "item_id": (user * 7 + time * 3) % NUM_ITEMS,
            "kind": "search" if time % 3 == 0 and user % 4 else "feed",
            "time_ms": time,
            "query": f"w{(user + time) % 9}",
            "split": "train" if time < 10 else "valid" if time == 10 else "test",
        }
        for user in range(1, 41)
        for time in range(12)
    ]
    items = pl.DataFrame({"item_id": range(NUM_ITEMS), "text": [f"w{item % 9}" for item in range(NUM_ITEMS)]})
    tables = make_tables(pl.DataFrame(rows), items, source="test", clock="ordinal")
    return open_dataset(build_dataset(tables, tmp_path_factory.mktemp("loader") / "ds"))


def loader(dataset: Dataset, *, seed: int = 0, data: dict[str, Any] | None = None, **train: Any) -> TrainLoader:
    section = TrainSection(**{"batch_size": 32, "align_negatives": 6, **train})
    return TrainLoader(dataset, DataSection(**{"feed_len": 4, "search_len": 3, **(data or {})}), section, seed)


def equal(one: SearchRecommendBatch, two: SearchRecommendBatch) -> bool:
    return all(torch.equal(value, getattr(two, name)) for name, value in vars(one).items() if isinstance(value, torch.Tensor))


def test_loader_step_is_a_function_of_seed_epoch_and_step(dataset: Dataset) -> None:
    first, second = loader(dataset), loader(dataset)
    second.step(4, 1)
    for epoch, step in [(0, 0), (1, 2), (0, 3)]:
        one, two = first.step(epoch, step), second.step(epoch, step)
        assert list(one) == ["recommend", "search"]
        assert all(equal(one[task], two[task]) for task in one)
    assert not equal(first.step(0, 0)["search"], first.step(1, 0)["search"])
    assert not equal(first.step(0, 0)["search"], loader(dataset, seed=1).step(0, 0)["search"])


def test_loader_sees_each_case_once_an_epoch(dataset: Dataset) -> None:
    loads = loader(dataset)
    steps = [loads.step(2, step) for step in range(loads.steps_per_epoch)]
    for task in ("recommend", "search"):
        cases = dataset.cases("train", task)
        seen = sorted((u, i) for step in steps for u, i in zip(
            step[task].user_B.tolist(), step[task].candidates_BC[:, 0].tolist(), strict=True
        ))  # fmt: skip
        assert seen == sorted(zip(cases.user_N.tolist(), cases.item_N.tolist(), strict=True))
        sizes = [len(step[task]) for step in steps]
        assert max(sizes) - min(sizes) <= 1
    assert max(len(step["recommend"]) for step in steps) <= 32


def test_loader_negatives_are_never_items_of_the_user(dataset: Dataset) -> None:
    loads = loader(dataset, num_negatives=7)
    events = dataset.train_events()
    had = set(zip(events.user_E.tolist(), events.item_E.tolist(), strict=True))
    for step in range(loads.steps_per_epoch):
        for batch in loads.step(0, step).values():
            assert batch.candidates_BC.shape[1] == 8
            assert batch.candidates_BC.min() >= 1
            assert batch.candidates_BC.max() <= NUM_ITEMS
            for user, row in zip(batch.user_B.tolist(), batch.candidates_BC[:, 1:].tolist(), strict=True):
                assert all((user, item) not in had for item in row)


def negatives_by_case(loads: TrainLoader, epoch: int) -> dict[tuple[int, ...], list[int]]:
    found = {}
    for step in range(loads.steps_per_epoch):
        batch = loads.step(epoch, step)["recommend"]
        for user, row in zip(batch.user_B.tolist(), batch.candidates_BC.tolist(), strict=True):
            found[(user, row[0])] = row[1:]
    return found


def test_loader_static_negatives_are_those_of_epoch_0(dataset: Dataset) -> None:
    fresh, static = loader(dataset), loader(dataset, negatives="static")
    assert negatives_by_case(static, 0) == negatives_by_case(fresh, 0)
    assert negatives_by_case(static, 3) == negatives_by_case(static, 0)
    assert negatives_by_case(fresh, 3) != negatives_by_case(fresh, 0)


def test_loader_own_history_hides_the_other_kind(dataset: Dataset) -> None:
    batches = loader(dataset, data={"history": "own"}).step(0, 0)
    assert not batches["recommend"].search_is_real_BS.any()
    assert batches["recommend"].feed_is_real_BF.any()
    assert not batches["search"].feed_is_real_BF.any()
    assert batches["search"].search_is_real_BS.any()


def test_loader_keeps_cases_with_both_histories_alone(dataset: Dataset) -> None:
    loads = loader(dataset, data={"require_both_histories": True})
    assert loads.num_cases["recommend"] < len(dataset.cases("train", "recommend"))
    for batch in loads.step(0, 0).values():
        assert batch.feed_is_real_BF.any(1).all()
        assert batch.search_is_real_BS.any(1).all()


def test_loader_aligns_with_items_and_training_queries(dataset: Dataset) -> None:
    batch = loader(dataset).step(0, 0)["search"]
    assert batch.align_items_N is not None
    assert batch.align_queries_N is not None
    assert (len(batch.align_items_N), len(batch.align_queries_N)) == (6, 6)
    assert batch.align_items_N.min() >= 1
    assert batch.align_queries_N.min() >= 1
    assert batch.align_queries_N.max() < len(batch.queries)


def test_loader_names_the_task_without_cases(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "time_ms": [1, 2, 3, 4], "kind": ["feed"] * 4})
    tables = make_tables(events, pl.DataFrame({"item_id": [1, 2, 3, 4]}), source="test")
    feeds = open_dataset(build_dataset(tables, tmp_path / "ds", split="leave_last"))
    with pytest.raises(DataError, match=r"leave search out of train\.tasks"):
        loader(feeds)
    batch = loader(feeds, tasks=("recommend",)).step(0, 0)["recommend"]
    assert batch.align_items_N is None
    assert batch.candidates_BC.shape == (2, 5)


def test_loader_does_not_draw_page_mates_of_another_split(tmp_path: Path) -> None:
    events = pl.DataFrame({
        "user_id": [1] * 4, "item_id": [1, 2, 3, 4], "time_ms": [0, 5, 5, 5], "kind": ["feed"] * 4,
        "split": ["train", "train", "valid", "test"],
    })  # fmt: skip
    tables = make_tables(events, pl.DataFrame({"item_id": range(1, 7)}), source="test")
    loads = loader(open_dataset(build_dataset(tables, tmp_path / "ds")), tasks=("recommend",), num_negatives=50)
    batch = loads.step(0, 0)["recommend"]
    drawn = {row[0]: set(row[1:]) for row in batch.candidates_BC.tolist()}
    assert drawn == {1: {3, 4, 5, 6}, 2: {5, 6}}


def test_case_batches_keep_order_and_put_the_target_first(dataset: Dataset) -> None:
    cases, data = dataset.cases("test", "recommend"), DataSection(feed_len=5, search_len=5)
    full = list(case_batches(dataset, cases, None, data, 16))
    assert torch.cat([batch.user_B for batch in full]).tolist() == cases.user_N.tolist()
    every = torch.cat([batch.candidates_BC for batch in full])
    assert torch.equal(every[:, 0], cases.item_N)
    assert torch.equal(every.sort(1).values, torch.arange(1, NUM_ITEMS + 1).expand(len(cases), -1))
    given = torch.stack([cases.item_N, cases.item_N % NUM_ITEMS + 1], 1)
    batches = list(case_batches(dataset, cases, given, data, 7))
    assert torch.equal(torch.cat([batch.candidates_BC for batch in batches]), given)
    assert batches[0].align_items_N is None


def test_negatives_are_uniform_over_the_free_items() -> None:
    user, item = torch.tensor([1, 1, 1, 3, 1]), torch.tensor([2, 9, 10, 5, 2])
    negatives = Negatives.of(user, item, num_users=3, num_items=10)
    case = torch.arange(3000)
    for who, taken in [(1, {2, 9, 10}), (2, set()), (3, {5})]:
        target = torch.full_like(case, 2)
        drawn = negatives.draw(case, torch.full_like(case, who), target, 4, 17, None)
        counts = torch.bincount(drawn.flatten(), minlength=11)
        free = [i for i in range(1, 11) if i not in taken]
        assert counts.sum() == counts[free].sum() == 12_000
        expected = 12_000 / len(free)
        assert ((counts[free] - expected).abs() < 5 * expected**0.5).all()


def test_negatives_of_a_user_who_has_everything_are_not_the_target() -> None:
    items = torch.arange(1, 6)
    negatives = Negatives.of(torch.ones_like(items), items, num_users=1, num_items=5)
    case = torch.arange(400)
    target = case % 5 + 1
    drawn = negatives.draw(case, torch.ones_like(case), target, 3, 0, None)
    assert (drawn != target[:, None]).all()
    assert set(drawn.flatten().tolist()) == {1, 2, 3, 4, 5}


def test_negatives_end_where_only_mates_are_free() -> None:
    negatives = Negatives.of(torch.tensor([1, 1]), torch.tensor([1, 2]), num_users=1, num_items=3)
    one = torch.tensor([1])
    drawn = negatives.draw(torch.tensor([0]), one, one, 2, 0, Ragged.of([[3]]))
    assert drawn.tolist() == [[3, 3]]


def test_hashed_numbers_depend_on_each_part() -> None:
    a, b = torch.arange(50)[:, None], torch.arange(40)
    numbers = hashed(3, a, b)
    assert numbers.shape == (50, 40)
    assert numbers.min() >= 0
    assert len(set(numbers.flatten().tolist())) == 2000
    assert not torch.equal(numbers, hashed(4, a, b))
    assert torch.equal(numbers[7, 9], hashed(3, torch.tensor(7), torch.tensor(9)))
