"""What the ledger says in words: verdicts, whom it helps, and what must be said of data that is no real log."""

from __future__ import annotations

from typing import Any

from corsar.evaluate.ledger import ALL, CELLS, GAINS, caution, words


def gain(task: str, name: str, segment: str, low: float, high: float, users: int = 50) -> dict[str, Any]:
    middle = (low + high) / 2
    return {
        "task": task,
        "gain": name,
        "segment": segment,
        "value": middle,
        "low": low,
        "high": high,
        "users": users,
        "cases": users,
    }


def ledger(**together: tuple[float, float]) -> dict[str, Any]:
    """A ledger in which `together` is told a task, and all else makes no difference."""
    rows = [
        {"task": task, "history": history, "loss": loss, "figure": {"value": 0.25 if (history, loss) == CELLS[0] else 0.5}}
        for task in together
        for history, loss in CELLS
    ]
    gains = [gain(task, name, ALL, -0.1, 0.1) for task in together for name in GAINS if name != "together"]
    gains += [gain(task, "together", ALL, *ends) for task, ends in together.items()]
    return {"metric": "NDCG@10", "rows": rows, "gains": gains}


def test_each_task_gets_its_verdict_and_its_figures() -> None:
    told = words(ledger(recommend=(0.01, 0.03), search=(-0.03, -0.01)))
    assert told[2] == ("recommend, both at once: it helps. NDCG@10 goes from 0.2500 to 0.5000, +0.0200 [+0.0100, +0.0300].")
    assert told[0].startswith("recommend, reading the other log: no difference is shown.")
    assert "search, both at once: it hurts." in told[6]
    assert told[-1].endswith("learns both tasks: for recommend it pays; for search it costs.")
    assert words(ledger(recommend=(-0.01, 0.01), search=(-1, 1)))[-1].endswith(
        "for recommend and search no difference is shown."
    )


def test_whom_it_helps_and_hurts_is_told_where_enough_users_show_it() -> None:
    told = ledger(recommend=(0.01, 0.03))
    assert words(told)[3] == "recommend, both at once, by segment: no group of users is shown to gain or to lose."
    told["gains"] += [
        gain("recommend", "together", "both_histories", 0.02, 0.06),
        gain("recommend", "together", "long_history", -0.01, 0.06),
        gain("recommend", "together", "new_items", -0.06, -0.02),
        gain("recommend", "together", "neither", -0.2, -0.1, users=3),
        gain("recommend", "history", "short_history", 0.1, 0.2),
    ]
    assert words(told)[3] == (
        "recommend, both at once, by segment: it helps both histories (+0.0400); it hurts new items (-0.0400)."
    )


def test_derived_data_shows_a_complete_history_never_transfer() -> None:
    (derived,) = caution("Searches are derived from item categories, not logged.")
    assert derived.startswith("Searches are derived from item categories, not logged. ")
    assert "what a complete history is worth" in derived
    assert "never transfer between channels" in derived
    (simulated,) = caution("Simulated logs: transfer 0.6, truth abc, defaults abc.")
    assert "never transfer" not in simulated
    assert "nothing of a real app" in simulated
    assert caution(None) == []
