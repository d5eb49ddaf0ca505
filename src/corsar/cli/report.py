"""corsar report: evaluated runs as a page to look at."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, app
from corsar.cli.show import tell


@app.command
def report(
    *runs: Path,
    out: Path | None = None,
    reference: str | None = None,
    metric: str | None = None,
    fingerprint: str | None = None,
    no_baselines: bool = False,
    title: str | None = None,
    json: Json = False,
) -> None:
    """Write one HTML page of evaluated runs: tables, differences, learning curves, segments; it needs no network.

    Args:
        runs: Runs that were evaluated in one call.
        out: The page; by default report.html in the first run.
        reference: Name of the run that the others are compared with; by default the best baseline, or the first run.
        metric: What the plots show, as HR@10; by default NDCG at the largest k.
        fingerprint: First digits of a protocol's fingerprint; by default that of the first run's newest report.
        no_baselines: Leave out the baselines that corsar evaluate counted beside.
        title: Of the page.
    """
    from corsar.api.report import report_runs

    told = report_runs(
        runs, out, reference=reference, metric=metric, fingerprint=fingerprint, baselines=not no_baselines, title=title
    )
    tell(json, told, f"the report on {', '.join(told['runs'])} is in {told['page']}")
