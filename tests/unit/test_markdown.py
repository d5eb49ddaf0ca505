"""Tables of Markdown."""

from __future__ import annotations

from corsar.evaluate.markdown import chance, figure, table


def test_a_cell_cannot_break_its_table() -> None:
    assert table([{"run": "a|b", "what": "two\nlines"}, {"run": "c"}]) == [
        "| run | what |", "|---|---|", "| a\\|b | two lines |", "| c | – |", "",
    ]  # fmt: skip
    assert table([]) == []


def test_figures_are_short() -> None:
    assert figure({"value": 0.25, "low": 0.2, "high": 0.31}) == "0.2500 [0.2000, 0.3100]"
    assert figure({"value": 0.25, "low": -0.2, "high": 0.31}, "+") == "+0.2500 [-0.2000, +0.3100]"
    assert (figure({"value": 0.25}), figure(None)) == ("0.2500", "–")
    assert (chance(0.04567), chance(0.00009999)) == ("0.0457", "< 0.0001")
