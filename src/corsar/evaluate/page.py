"""The report of several runs as one page that needs no network: tables, plots of them, and how the figures came about."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corsar.errors import ConfigError
from corsar.evaluate import figures, method
from corsar.evaluate.compare import Difference, differences, main_metric, tasks_of
from corsar.evaluate.comparison import TEST
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.html import details, esc, figure, frame, table
from corsar.evaluate.markdown import chance
from corsar.evaluate.report import main_metrics, sentences, write_text
from corsar.evaluate.segments import PLACE_SEGMENTS, SEGMENTS

NONE = "–"
DIFFERENCES = (
    "Both were asked the same cases, so that what is hard for both cancels out. Each interval is for itself: among many of them"
    f" some leave zero out by chance. {TEST}"
)
LISTS = (
    "A list is what stands first among the candidates of a case. Coverage is the share of the catalogue that is ever shown;"
    " novelty the mean of -log2 of an item's share of the training part; ARP the mean training count of what is shown;"
    " popularity lift ARP over that of the targets, less 1; Gini is 0 where all items are shown alike, 1 where one is."
)


@dataclass(frozen=True)
class Part:
    """Runs that stand in one table."""

    title: str
    runs: Sequence[Evaluated]
    reference: str | None = None  # the run that all others are compared with


def write_page(parts: Sequence[Part], out: Path, *, title: str, metric: str | None = None) -> Path:
    """Write the page and give back where it is.

    Args:
        metric: what the plots show; NDCG at the largest k by default.

    Raises:
        ConfigError: plotly is missing, `out` is a directory, or a metric or reference has no such name.
        OutputError: the page cannot be written.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a directory; name a file in it, as in --out {out / 'report.html'}")
    library, plots, body = plotly_library(), dict[str, Any](), []
    if len(parts) > 1:
        links = "".join(f'<li><a href="#part{at}">{esc(part.title)}</a></li>' for at, part in enumerate(parts))
        body.append(f"<nav><ul>{links}</ul></nav>")
    for at, part in enumerate(parts):
        body.append(
            f'<section id="part{at}"><h2>{esc(part.title)}</h2>\n{_part(part, f"part{at}-", metric, plots)}\n</section>'
        )
    body.append(f"<p>Written by corsar {esc(importlib.metadata.version('corsar'))}.</p>")
    write_text(out, frame(title, "\n".join(body), plots, library))
    return out


def plotly_library() -> str:
    """The text of plotly.js; ConfigError where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError("the page needs plotly; install it with: pip install 'corsar[report]'") from error
    return str(get_plotlyjs())


def _part(part: Part, prefix: str, metric: str | None, plots: dict[str, Any]) -> str:
    runs, shown = part.runs, main_metric(part.runs, metric)
    # the first sentence counts cases, and a run need not know all tasks
    widest = max(runs, key=lambda run: len(run.tasks)).report
    told, *derived = sentences(widest)
    tasks = tasks_of(runs)
    found = differences(runs, shown, part.reference)
    pieces = [f'<p class="derived">{esc(one)}</p>' for one in derived]
    pieces += [f"<p>{esc(told.replace('± is half a 95 % interval', 'intervals are of 95 %, users resampled'))}</p>"]
    pieces += ["<h3>Figures</h3>"]
    for task in tasks:
        pieces += _figures(runs, task, widest)
    if found:
        pieces += ["<h3>Differences</h3>", f"<p>{esc(DIFFERENCES)}</p>"]
        for task in tasks:
            pieces += _differences([one for one in found if one.task == task], task, shown, prefix, plots)
    pieces += _curves(runs, prefix, plots)
    pieces += ["<h3>Segments</h3>"]
    for task in tasks:
        pieces += _segments(runs, task, shown, prefix, plots)
    pieces += ["<h3>What the lists are like</h3>", f"<p>{esc(LISTS)}</p>", *(_lists(runs, task) for task in tasks)]
    pieces += ["<h3>How it was measured</h3>", *method.pieces(runs)]
    return "\n".join(pieces)


def _figures(runs: Sequence[Evaluated], task: str, widest: Any) -> list[str]:
    here = [run for run in runs if task in run.tasks]
    names = list(here[0].report["metrics"][task])
    kinds = ["trained" if run.report["trained"] else "counted" for run in here]
    caption = f"{task}: {widest['cases'][task]:,} cases of {widest['users'][task]:,} users"

    def rows(metrics: Sequence[str]) -> list[list[str]]:
        figures_of = [run.report["metrics"][task] for run in here]
        cells = [[with_interval(told.get(name)) for name in metrics] for told in figures_of]
        return [[run.name, kind, *row] for run, kind, row in zip(here, kinds, cells, strict=True)]

    short = [*main_metrics(names), *[name for name in names if name.startswith("MAP@")][-1:]]
    columns = ["model", "kind"]
    every = table(f"{caption}; all metrics (a case has one target, so that Recall is HR)", [*columns, *names], rows(names))
    return [
        table(f"{caption}; mean and 95 % interval", [*columns, *short], rows(short)),
        details(f"All metrics of {task}", every),
    ]


def _differences(found: Sequence[Difference], task: str, metric: str, prefix: str, plots: dict[str, Any]) -> list[str]:
    if not found:
        return []
    name, reference = f"{prefix}forest-{task}", found[0].reference
    plots[name] = figures.forest(found, metric)
    caption = f"{task}: {metric} minus that of {reference}, paired by case, 95 % intervals over users"
    rows = [
        [one.name, f"{one.value:+.4f}", f"[{one.low:+.4f}, {one.high:+.4f}]", chance(one.p), chance(one.p_holm)]
        for one in found
    ]
    columns = ["model", metric, "95 % interval", "p", "p (Holm)"]
    return [figure(name, caption), table(f"{task}: differences from {reference}", columns, rows)]


def _curves(runs: Sequence[Evaluated], prefix: str, plots: dict[str, Any]) -> list[str]:
    trained = [run for run in runs if run.epochs]
    if not trained:
        return []
    pieces = ["<h3>Learning curves</h3>"]
    for what, title in (("loss", "training loss"), ("score", "validation NDCG@5")):
        name = f"{prefix}curve-{what}"
        plots[name] = figures.curve(runs, what, title)
        pieces.append(figure(name, f"{title} by epoch"))
    best = [[run.name, len(run.epochs), *_best(run)] for run in trained]
    pieces.append(
        table("Trainings: the best epoch is the one that is kept", ["model", "epochs", "best epoch", "its score"], best)
    )
    rows = [[run.name, one.number, _number(one.loss), _number(one.score)] for run in trained for one in run.epochs]
    columns = ["model", "epoch", "training loss", "validation NDCG@5"]
    return [*pieces, details("All epochs", table("Loss and validation score by epoch", columns, rows))]


def _best(run: Evaluated) -> tuple[object, str]:
    best = [epoch for epoch in run.epochs if epoch.best]
    return (best[-1].number, _number(best[-1].score)) if best else (NONE, NONE)


def _segments(runs: Sequence[Evaluated], task: str, metric: str, prefix: str, plots: dict[str, Any]) -> list[str]:
    here, name = [run for run in runs if task in run.tasks], f"{prefix}segments-{task}"
    plots[name] = figures.segments(runs, task, metric)
    told = [run.report["segments"][task] for run in here]
    meanings = PLACE_SEGMENTS if task == "next_place" else SEGMENTS
    rows = [
        [segment.replace("_", " "), meanings.get(segment, ""), f"{one['cases']:,}", f"{one['users']:,}"]
        + [with_interval(of_run[segment]["metrics"].get(metric)) for of_run in told]
        for segment, one in told[0].items()
    ]
    caption = f"{task}: {metric} by what is known of the user and of the target; segments overlap"
    columns = ["segment", "meaning", "cases", "users", *(run.name for run in here)]
    return [figure(name, caption), table(f"{task}: {metric} by segment", columns, rows)]


def _lists(runs: Sequence[Evaluated], task: str) -> str:
    here = [run for run in runs if task in run.tasks]
    names = list(dict.fromkeys(name for run in here for name in run.report["lists"][task]))
    rows = [[run.name, *(_number(run.report["lists"][task].get(name)) for name in names)] for run in here]
    return table(f"{task}: metrics of the lists", ["model", *names], rows)


def with_interval(told: dict[str, float] | None) -> str:
    """A figure of a report, and its interval on a line below."""
    if told is None:
        return NONE
    return f"{told['value']:.4f}" + (f"\n[{told['low']:.4f}, {told['high']:.4f}]" if "low" in told else "")


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
