"""Evaluated runs in one table, with tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corsar.errors import ConfigError
from corsar.evaluate.comparison import compared, difference_rows, figure_rows, markdown, segment_rows
from corsar.evaluate.gather import open_runs
from corsar.evaluate.page import Part, write_page

File = Path | str


def compare_runs(
    runs: Sequence[File],
    *,
    reference: str | None = None,
    metric: str | None = None,
    fingerprint: str | None = None,
    baselines: bool = True,
    html: File | None = None,
) -> dict[str, Any]:
    """One table of evaluated runs: figures with intervals, paired differences with tests by user, segments.

    "rows", "segments" and "sentences" are data, "tables" the same as rows of text, "markdown" all of it as one text; "page" is
    where the page is, if one was asked for.

    Args:
        runs: Runs that were evaluated under one protocol; others are refused.
        reference: Name of the run that the others are compared with; by default the best that only counts, or the first.
        metric: What is tested; NDCG at the largest k by default.
        fingerprint: First digits of a protocol's fingerprint, where it is not the newest report that is wanted.
        baselines: Take what `corsar evaluate` counted beside the runs along.
        html: Write an HTML page of it as well.

    Raises:
        ConfigError: A run is not there, or no figure or run has that name.
        DataError: A run has no report, or the reports differ in candidates, split, data, seen items, tie rule or the like.
    """
    folders = [Path(run) for run in runs]
    if not folders:
        raise ConfigError("name the runs to compare, as in: corsar compare runs/unisar runs/blend")
    found = open_runs(folders, fingerprint=fingerprint, baselines=baselines)
    told = compared(found, metric, reference)
    tables = {"figures": figure_rows(told), "differences": difference_rows(told), "segments": segment_rows(told)}
    told |= {"tables": tables, "markdown": markdown(told), "page": None}
    if html is not None:
        part = Part(f"{len(found)} runs on {found[0].report['config']['data']['path']}", found, reference)
        told["page"] = str(write_page([part], Path(html), title="corsar compare", metric=metric))
    return told
