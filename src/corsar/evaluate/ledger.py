"""The transfer ledger as words and as a page: what reading the other log, and learning the other task, are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corsar.evaluate.ablation import verdict
from corsar.evaluate.markdown import figure, table
from corsar.evaluate.segments import SEGMENTS

ALL = "all cases"
FEWEST = 20  # users of a segment that is judged
CELLS = tuple((history, loss) for history in ("own", "both") for loss in ("own", "both"))
# weights of the cells (history, loss) in each gain
GAINS: dict[str, dict[tuple[str, str], float]] = {
    "history": {("both", "own"): 1, ("own", "own"): -1},
    "loss": {("own", "both"): 1, ("own", "own"): -1},
    "together": {("both", "both"): 1, ("own", "own"): -1},
    "interplay": {("both", "both"): 1, ("both", "own"): -1, ("own", "both"): -1, ("own", "own"): 1},
}
MEANINGS = {
    "history": "a model of its own task alone reads the other log as well",
    "loss": "a model that reads its own log alone learns both tasks",
    "together": "one model reads both logs and learns both tasks, in place of one that knows its own log and task alone",
    "interplay": "what both together are worth beyond the sum of the two",
}
DERIVED = (
    "On such data the ledger shows what a complete history is worth, never transfer between channels: the one kind of event was"
    " made from the other, or from the items."
)
SIMULATED = "Such logs show whether the ledger finds the truth that they were made with; they say nothing of a real app."
BUDGET = (
    "All runs have the same settings and the same number of epochs; a task that is learnt alone is cut into as many steps an"
    " epoch as beside the other one, so that each run sees each case of its task equally often. The best epoch of each is"
    " chosen on the validation cases of its own tasks."
)

# what it leads to, from each task's own model, and how a sentence calls it
SAID = {
    "history": (("both", "own"), "reading the other log"),
    "loss": (("own", "both"), "learning both tasks"),
    "together": (("both", "both"), "both at once"),
}
JUDGED = {"better": "it helps", "worse": "it hurts", "not shown": "no difference is shown"}
PAYS = {"better": "it pays", "worse": "it costs", "not shown": "no difference is shown"}


def caution(derived: str | None) -> list[str]:
    """What must be said of data that is derived or simulated, and how."""
    if not derived:
        return []
    return [f"{derived} {SIMULATED if derived.startswith('Simulated') else DERIVED}"]


def words(told: Mapping[str, Any]) -> list[str]:
    """A sentence a task and gain, whom both at once help and hurt, and one that sums it up."""
    lines, pays = list[str](), dict[str, list[str]]()
    for task in dict.fromkeys(one["task"] for one in told["gains"]):
        own = {(one["gain"], one["segment"]): one for one in told["gains"] if one["task"] == task}
        cells = {(row["history"], row["loss"]): row["figure"] for row in told["rows"] if row["task"] == task and "loss" in row}
        before = cells["own", "own"]["value"]
        for name, (cell, start) in SAID.items():
            gain = own[name, ALL]
            moved = f"{told['metric']} goes from {before:.4f} to {cells[cell]['value']:.4f}, {figure(gain, '+')}"
            lines.append(f"{task}, {start}: {JUDGED[verdict(gain)]}. {moved}.")
        whom = [
            f"it {word} {groups}"
            for word, groups in (("helps", _whom(own, "better")), ("hurts", _whom(own, "worse")))
            if groups
        ]
        lines.append(f"{task}, both at once, by segment: {'; '.join(whom) or 'no group of users is shown to gain or to lose'}.")
        pays.setdefault(verdict(own["together", ALL]), []).append(task)
    found = [f"for {' and '.join(tasks)} {PAYS[word]}" for word, tasks in pays.items()]
    return [
        *lines,
        f"In short: in place of a model for each, one that reads both logs and learns both tasks: {'; '.join(found)}.",
    ]


def _whom(own: Mapping[tuple[str, str], Mapping[str, Any]], word: str) -> str:
    return ", ".join(
        f"{segment.replace('_', ' ')} ({gain['value']:+.4f})"
        for (name, segment), gain in own.items()
        if name == "together" and segment != ALL and gain["users"] >= FEWEST and verdict(gain) == word
    )


def gain_rows(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """The gains over all cases as rows of text."""
    return [
        {"task": one["task"], "gain": one["gain"], told["metric"]: figure(one, "+"), "which is": verdict(one)}
        for one in told["gains"]
        if one["segment"] == ALL
    ]


def cell_rows(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """The four cells of each task, and the untrained rules, as rows of text."""
    return [
        {"task": row["task"], "history": row.get("history", "–"), "loss": row.get("loss", "–"), "model": row["model"]}
        | {told["metric"]: figure(row["figure"])}
        for row in told["rows"]
    ]


def segment_rows(told: Mapping[str, Any], task: str) -> list[dict[str, str]]:
    """The gains of a task by segment as rows of text."""
    found = [one for one in told["gains"] if one["task"] == task and one["segment"] != ALL]
    return [
        {"segment": segment.replace("_", " "), "cases": f"{first['cases']:,}", "users": f"{first['users']:,}"}
        | {one["gain"]: figure(one, "+") for one in found if one["segment"] == segment and one["gain"] != "interplay"}
        for segment, first in {one["segment"]: one for one in found}.items()
    ]


def markdown(told: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# What both logs are worth", "", *_paragraphs(told["sentences"]), "## The figures", ""]
    lines += [*table(cell_rows(told)), "## The gains", "", *(f"- {name}: {text}." for name, text in MEANINGS.items()), ""]
    lines += table(gain_rows(told))
    for task in dict.fromkeys(one["task"] for one in told["gains"]):
        lines += [f"## {task}, by segment", "", *table(segment_rows(told, task))]
    lines += [*(f"- {name.replace('_', ' ')}: {text}" for name, text in SEGMENTS.items()), "", "## The runs", "", BUDGET, ""]
    machine = told["machine"]
    lines += [*table(told["budget"]), f"Seeds {', '.join(map(str, told['seeds']))}; `{told['command']}`.", ""]
    lines += [f"Machine: {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}."]
    return "\n".join([*lines, f"Fingerprint of the protocol: `{told['fingerprint'][:16]}`."])


def _paragraphs(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in (sentence, "")]
