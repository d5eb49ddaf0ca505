"""corsar compare: evaluated runs in one table."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, app
from corsar.cli.show import tell


@app.command
def compare(
    *runs: Path,
    reference: str | None = None,
    metric: str | None = None,
    fingerprint: str | None = None,
    no_baselines: bool = False,
    markdown: bool = False,
    html: Path | None = None,
    json: Json = False,
) -> None:
    """Put evaluated runs into one table: intervals, paired tests by user with Holm's correction, segments.

    Args:
        runs: Runs that were evaluated under one protocol; unlike ones are refused, and what differs is named.
        reference: Name of the run that the others are compared with; by default the best baseline, or the first run.
        metric: What is tested, as HR@10; by default NDCG at the largest k.
        fingerprint: First digits of a protocol's fingerprint; by default that of the first run's newest report.
        no_baselines: Leave out the baselines that corsar evaluate counted beside.
        markdown: Print Markdown in place of tables.
        html: Write an HTML page of it as well, with plots; it needs no network.
    """
    from corsar.api.compare import compare_runs

    told = compare_runs(
        runs, reference=reference, metric=metric, fingerprint=fingerprint, baselines=not no_baselines, html=html
    )
    page = [f"the page is in {told['page']}"] if told["page"] else []
    if markdown:
        tell(json, told, told["markdown"])
        return
    shown: list[str | list[dict[str, str]]] = [told["tables"]["figures"]]
    if told["tables"]["differences"]:
        shown += ["differences, paired by case", told["tables"]["differences"]]
    if told["tables"]["segments"]:
        shown += [f"{told['metric']} by segment; segments overlap", told["tables"]["segments"]]
    tell(json, told, *shown, *told["sentences"], *page)
