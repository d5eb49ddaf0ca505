"""The report page of evaluated runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corsar.errors import ConfigError
from corsar.evaluate.gather import open_runs
from corsar.evaluate.page import Part, write_page

File = Path | str


def report_runs(
    runs: Sequence[File],
    out: File | None = None,
    *,
    reference: str | None = None,
    metric: str | None = None,
    fingerprint: str | None = None,
    baselines: bool = True,
    title: str | None = None,
) -> dict[str, Any]:
    """Write one offline HTML page of runs that were evaluated under one protocol: {"page": path, "runs": names}.

    Args:
        out: Where to; by default `report.html` in the first run.
        reference: Name of the run that the others are compared with; by default the best that only counts, or the first.
        metric: What the plots show; NDCG at the largest k by default.
        fingerprint: First digits of a protocol's fingerprint, where it is not the newest report that is wanted.
        baselines: Take what `corsar evaluate` counted beside the runs along.
        title: Of the page.

    Raises:
        ConfigError: A run is not there, plotly is missing, or no figure or run has that name.
        DataError: A run has no report, or the reports are not of one protocol.
    """
    folders = [Path(run) for run in runs]
    if not folders:
        raise ConfigError("name at least one run, as in: corsar report runs/unisar")
    found = open_runs(folders, fingerprint=fingerprint, baselines=baselines)
    who = f"{len(found)} runs" if len(found) > 1 else found[0].name
    part = Part(f"{who} on {found[0].report['config']['data']['path']}", found, reference)
    page = write_page([part], Path(out or folders[0] / "report.html"), title=title or "corsar report", metric=metric)
    return {"page": str(page), "runs": [run.name for run in found]}
