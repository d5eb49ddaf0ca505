"""Pieces of a Markdown page: tables, and figures as short text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NONE = "–"


def table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The lines of a table whose columns are the keys of the first row, and an empty line behind it; nothing for no rows."""
    if not rows:
        return []
    names = list(rows[0])
    lines = [_line(names), "|---" * len(names) + "|"]
    return [*lines, *(_line([row.get(name, NONE) for name in names]) for row in rows), ""]


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def figure(told: Mapping[str, float] | None, sign: str = "") -> str:
    """value [low, high], or a dash; `sign` is "+" for differences."""
    if told is None:
        return NONE
    value, *ends = (f"{told[key]:{sign}.4f}" for key in ("value", "low", "high") if key in told)
    return f"{value} [{', '.join(ends)}]" if ends else value


def chance(p: float) -> str:
    """A p as text: four digits, or that it is smaller."""
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
