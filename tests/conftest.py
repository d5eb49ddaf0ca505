"""Shared fixtures, and the rule on skips: with CORSAR_NO_SKIP=1 a skipped test that could have run is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from corsar.schema import Tables

# read by torch and polars when they are first imported: tests run side by side, and results do not hang on the machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def _could_have_run(reason: str) -> bool:
    if "folder absent" in reason:
        return SHARED.exists()
    if "no GPU" in reason:
        import torch

        return torch.cuda.is_available()
    return True


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get("CORSAR_NO_SKIP") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if _could_have_run(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped although it could have run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def audited() -> Generator[None, None, None]:
    """Every dataset directory that is prepared in these tests goes through the look-ahead audit."""
    from corsar.data import beside

    put = beside._put_in_place

    def put_and_audit(made: Path, out: Path) -> None:
        put(made, out)
        if (out / "history").is_dir() and (out / "cases").is_dir():
            from corsar.data.audit import audit_dataset
            from corsar.data.store import open_dataset

            leaks = audit_dataset(open_dataset(out))[0]
            assert not leaks, f"{out} looks ahead: {leaks}"

    beside._put_in_place = put_and_audit
    yield
    beside._put_in_place = put


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test skips where there is none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("folder absent: ../shared/data")
    return folder


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder of golden numbers beside the repository; the test skips where there is none."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("folder absent: ../shared/golden")
    return folder


@pytest.fixture(scope="session")
def tiny_tables() -> Tables:
    """Checked tables of twelve users who feed and search among twenty items, some with one kind of event alone."""
    import polars as pl

    from corsar.schema import make_tables

    colours, things = ("red", "blue", "green", "black"), ("shoe", "ball", "lamp", "book", "cup")
    texts = [f"{colour} {thing}" for colour in colours for thing in things]
    rows = []
    for user in range(12):
        for place in range(10):
            item = (user * 7 + place * 3) % 20
            searches = (place + user) % 3 == 0 if user < 10 else user == 11
            query = texts[item].split()[place % 2] if searches else None
            rows.append((f"u{user}", f"i{item}", "search" if searches else "feed", place * 3_600_000, query))
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "query"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "text": texts, "thing": list(things) * 4})
    return make_tables(events, items, source="tiny", categories=("thing",))


@pytest.fixture(scope="session")
def tiny_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset directory of check-ins: the last of each person is test, the one before valid."""
    from corsar.api.example import example_check_ins
    from corsar.data.build import build_dataset
    from corsar.schema import make_tables

    check_ins, places = example_check_ins()
    tables = make_tables(check_ins, places, source="city", categories=("category",))
    return build_dataset(tables, tmp_path_factory.mktemp("city") / "dataset", split="leave_last")


@pytest.fixture(scope="session")
def tiny_dataset(tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset directory of `tiny_tables`: the last event of each user is test, the one before valid."""
    from corsar.data.build import build_dataset

    return build_dataset(tiny_tables, tmp_path_factory.mktemp("tiny") / "dataset", split="leave_last")
