"""The look-ahead audit finds each planted leak, and nothing where all is clean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from corsar import api
from corsar.api.look import audit_data
from corsar.cli import main
from corsar.data.audit_leaks import CHECKS
from corsar.data.build import build_dataset
from corsar.data.store import file_hash, manifest_hash, open_dataset
from corsar.schema import make_tables
from corsar.sources.simulate import simulate
from corsar.vocab import Vocab


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of simulated logs, with a sample of candidates beside it."""
    folder = tmp_path_factory.mktemp("clean")
    simulate(folder / "raw", users=30, items=150, seed=2)
    api.prepare_kuaisar(folder / "raw", folder / "dataset", split="leave_last")
    from corsar.evaluate.candidates import stored_sample

    dataset = open_dataset(folder / "dataset")
    stored_sample(dataset, dataset.cases("test", "recommend"), 20)
    return folder / "dataset"


def _sign(folder: Path) -> None:
    """Make the manifest fit what the files hold now, as one who prepares with a fault would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, told in manifest["files"].items():
        told |= {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size}
    manifest["data_hash"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _change(folder: Path, name: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    """Change an array of the dataset in place, or by what comes back."""
    values = np.load(folder / f"{name}.npy")
    changed = change(values)
    np.save(folder / f"{name}.npy", values if changed is None else changed)


def _busiest(folder: Path, split: str, task: str) -> int:
    """A case with a long history."""
    dataset = open_dataset(folder)
    cases = dataset.cases(split, task)  # type: ignore[arg-type]
    return int((cases.feed_end_N - dataset.history.feed_offsets[cases.user_N]).argmax())


def _far_feed(folder: Path) -> None:
    case = _busiest(folder, "test", "recommend")
    _change(folder, "cases/test_recommend/feed_end_N", lambda ends: ends.__setitem__(case, ends[case] + 1))


def _far_search(folder: Path) -> None:
    dataset = open_dataset(folder)
    cases = dataset.cases("train", "recommend")
    some = int((cases.search_end_N == dataset.history.search_offsets[cases.user_N]).nonzero()[0])
    _change(folder, "cases/train_recommend/search_end_N", lambda ends: ends.__setitem__(some, ends[some] + 1))


def _later(folder: Path) -> None:
    _change(folder, "cases/valid_search/time_N", lambda times: times.__setitem__(1, times[1] + 60_000))


def _mixed(folder: Path) -> None:
    offsets = open_dataset(folder).history.feed_offsets
    first = int(offsets[4])
    _change(folder, "history/feed_times", lambda times: times.__setitem__(first + 5, times[first] - 1))


def _merged(folder: Path) -> None:
    _change(folder, "history/feed_others", lambda others: others + (others == others.max()))


def _neighbour(folder: Path) -> None:
    case = _busiest(folder, "test", "search")
    user = int(open_dataset(folder).cases("test", "search").user_N[case])
    ends = open_dataset(folder).history.search_offsets
    _change(folder, "cases/test_search/search_end_N", lambda values: values.__setitem__(case, int(ends[user]) - 1))


def _same_case_twice(folder: Path) -> None:
    """A test case that is a training case too."""
    for column in ("user_N", "item_N", "time_N", "feed_end_N", "search_end_N", "query_N", "group_N"):
        last = np.load(folder / f"cases/test_recommend/{column}.npy")[-1:]
        _change(folder, f"cases/train_recommend/{column}", lambda values, last=last: np.concatenate([values, last]))


def _held_events(folder: Path) -> None:
    cases = open_dataset(folder).cases("test", "recommend")
    for name, value in (("user_E", cases.user_N[:1]), ("item_E", cases.item_N[:1]), ("is_search_E", torch.tensor([False]))):
        more = value.numpy()
        _change(folder, f"train_events/{name}", lambda values, more=more: np.concatenate([values, more]))


def _held_words(folder: Path) -> None:
    words = pl.read_parquet(folder / "words.parquet")["id"]
    Vocab([*words, "zzz"]).save(folder / "words.parquet")


def _held_queries(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["counts"]["train_queries"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _positive_candidate(folder: Path) -> None:
    target = int(open_dataset(folder).cases("test", "recommend").item_N[7])
    _change(folder, "candidates/test_recommend_sampled_20", lambda items: items.__setitem__((7, 3), target))


def _clicked_candidate(folder: Path) -> None:
    cases = open_dataset(folder).cases("train", "search")
    case = int((cases.group_N > 0).nonzero()[0])
    mate = cases.take(torch.tensor([case])).mates.values[0]
    np.save(folder / "cases/train_search/negatives_NC.npy", np.full((len(cases), 1), int(mate)))


PLANTED: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a feed event too far": (_far_feed, {"future feed", "batches"}),
    "a search too far": (_far_search, {"future search", "batches"}),
    "a case at a later time": (_later, {"no event"}),
    "times out of order": (_mixed, {"history order"}),
    "a wrong merged order": (_merged, {"merged order"}),
    "a neighbour's history": (_neighbour, {"other user"}),
    "a test case in the training part": (_same_case_twice, {"no event", "train after held-out"}),
    "a test event that is counted": (_held_events, {"train events"}),
    "a test word": (_held_words, {"held-out words"}),
    "a test query": (_held_queries, {"held-out queries"}),
    "a target among its candidates": (_positive_candidate, {"positive negatives"}),
    "a mate among stored negatives": (_clicked_candidate, {"positive negatives"}),
}


def test_audit_is_silent_on_clean_data(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "audit", str(clean), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["leaks"] == []
    assert told["cases"] > 1000
    assert told["same_time"]["feed"] > 0


@pytest.mark.parametrize("what", PLANTED)
def test_audit_finds_a_planted_leak(what: str, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant, checks = PLANTED[what]
    folder = tmp_path / "dataset"
    shutil.copytree(clean, folder)
    plant(folder)
    _sign(folder)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "audit", str(folder), "--json"])
    assert stopped.value.code == 1
    told = {leak["check"]: leak for leak in json.loads(capsys.readouterr().out)["leaks"]}
    assert checks <= told.keys()
    for leak in told.values():
        assert leak["count"] > 0
        assert leak["what"] == CHECKS[leak["check"]]
        assert "row" in leak["first"][0]
    with pytest.raises(SystemExit):
        main(["data", "audit", str(folder)])
    assert all(check in capsys.readouterr().out for check in ["first: "])


def test_offending_rows_are_told_with_their_ids(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "dataset")
    _positive_candidate(tmp_path / "dataset")
    (leak,) = audit_data(tmp_path / "dataset")["leaks"]
    dataset = open_dataset(clean)
    cases = dataset.cases("test", "recommend")
    assert leak["count"] == 1
    assert leak["first"] == [
        {
            "file": "test_recommend_sampled_20.npy", "split": "test", "task": "recommend", "row": 7,
            "user": dataset.users.ids([int(cases.user_N[7])])[0], "item": dataset.items.ids([int(cases.item_N[7])])[0],
            "time_ms": int(cases.time_N[7]),
        }
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["page", "session", "clicks"])
def test_audit_finds_a_fault_of_the_pipeline(
    fault: str, tmp_path: Path, tiny_tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline that takes events of the same time for history, or draws what the user had, does not get through."""
    from corsar.data import cases, negatives

    real = cases.history_ends
    if fault == "page":
        monkeypatch.setattr(cases, "history_ends", lambda entries: (real(entries)[0] + ~entries.is_search_E, real(entries)[1]))
    elif fault == "session":
        monkeypatch.setattr(cases, "history_ends", lambda entries: (real(entries)[0], real(entries)[1] + entries.is_search_E))
    else:
        monkeypatch.setattr(negatives.Negatives, "_once", lambda self, user, target, random: random % self.num_items + 1)
    with pytest.raises(AssertionError, match="looks ahead"):
        build_dataset(tiny_tables, tmp_path / "dataset", split="leave_last")


def _canaries(gap_ms: int) -> Any:
    """Events of users who, before each item, have the canary that gives it away; `gap_ms` before the last one."""
    rows: list[tuple[int, str, str, int]] = []
    draw = np.random.default_rng(4)
    for user in range(300):
        for place in range(4):
            item = int(draw.integers(40))
            ms = place * 1_000_000
            rows += [(user, f"canary{item}", "feed", ms - (gap_ms if place == 3 else 10)), (user, f"item{item}", "feed", ms)]
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms"], orient="row").sample(
        fraction=1, shuffle=True, seed=1
    )
    return make_tables(events, source="canaries")


def _hit_rate(folder: Path, gap_ms: int) -> float:
    """How often the item whose canary stands `gap_ms` before it comes first, over users' last items."""
    build_dataset(_canaries(gap_ms), folder / "dataset", split="leave_last")
    overrides = {"data.path": json.dumps(str(folder / "dataset")), "model.name": '"markov"', "train.tasks": '["recommend"]'}
    api.train_run(None, folder / "run", overrides=overrides)
    told = api.evaluate_runs([folder / "run"], overrides={"evaluate.bootstrap": "2"}, baselines=False)
    hit: float = told["reports"][0]["metrics"]["recommend"]["HR@1"]["value"]
    return hit


def test_canary_at_the_targets_own_time_is_of_no_use(tmp_path: Path) -> None:
    """What is sent with the target gives it away, and the pipeline must not be able to use it; a moment earlier, it may."""
    (tmp_path / "with").mkdir()
    (tmp_path / "before").mkdir()
    assert _hit_rate(tmp_path / "before", gap_ms=1) > 0.9
    assert _hit_rate(tmp_path / "with", gap_ms=0) < 0.15
