"""Ranked candidates and targets as TREC's run and qrels files, so that other programs can compute the figures anew.

A case is a topic: its number in its split and task, as in `reports/PRINT.parquet`. The score of a candidate is how many of the
list stand at or behind it, not the model's own: trec_eval looks at the order of the scores alone, reads them as 32-bit floats,
in which near scores would become one, and breaks ties by the names of the documents.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from corsar.batch import Task
from corsar.config import Config
from corsar.data.store import Dataset
from corsar.errors import DataError
from corsar.evaluate.candidates import Chosen, choose
from corsar.evaluate.protocol import asked_tasks, fingerprint, protocol_of
from corsar.evaluate.ranking import Ranked, rank_targets
from corsar.models.base import Model
from corsar.progress import Progress

DEPTH = 1000  # of a list over the whole catalogue
CASES_AT_ONCE = 2048


def write_trec(
    model: Model, dataset: Dataset, config: Config, folder: Path, *, tag: str, depth: int = DEPTH, progress: Progress
) -> dict[str, Any]:
    """Write TASK.run and TASK.qrels for each task into a folder: {"protocol", "fingerprint", "tasks"}.

    "tasks" counts for each task its cases, the lines of its run, the cases whose target ties with another candidate (corsar
    takes the expectation over their orders, the file holds one of them), and those whose target lies behind the list's end.

    Args:
        tag: the name of the run in its file.
        depth: how many candidates of a case are written at most, where all items are candidates.

    Raises:
        DataError: there is no case, or a score is not finite.
    """
    rules = config.evaluate
    chosen = {task: choose(dataset, task, rules) for task in dataset.tasks}
    tasks = [task for task in asked_tasks(model, dataset, config) if len(chosen[task].cases)]
    if not tasks:
        raise DataError(f"the dataset has no case in {rules.split} that this model knows; choose another evaluate.split")
    protocol = protocol_of(dataset, rules, chosen, config.data.target_time)
    names_I = ["", *map(word, dataset.items.ids(range(1, len(dataset.items) + 1)).to_list())]
    told = {}
    with progress.task("rank", sum(len(chosen[task].cases) for task in tasks)) as bar:
        for task in tasks:
            one = chosen[task]
            top = min(depth, len(dataset.items)) if one.negatives_NC is None else one.negatives_NC.shape[1] + 1
            ranked = rank_targets(
                model, dataset, one.cases, one.negatives_NC, config.data,
                score=rules.score, exclude_seen=rules.exclude_seen, top=top, advance=bar.advance,
            )  # fmt: skip
            told[task] = _write(folder, task, one, ranked, names_I, word(tag))
    return {"protocol": protocol, "fingerprint": fingerprint(protocol), "tasks": told}


def word(name: object) -> str:
    """A name as one word, which is all that these files hold: blanks (and %) as in addresses."""
    return re.sub(r"[\s%]", lambda found: quote(found[0]), str(name))


def _write(folder: Path, task: Task, chosen: Chosen, ranked: Ranked, names_I: Sequence[str], tag: str) -> dict[str, int]:
    names, lines, target_N = pl.Series(names_I, dtype=pl.String), 0, chosen.cases.item_N.numpy()
    truth = pl.DataFrame({"topic": chosen.rows_N, "item": names.gather(target_N)})
    _append(folder / f"{task}.qrels", truth.select("topic", pl.lit("0").alias("0"), "item", pl.lit("1").alias("1")))
    for start in range(0, len(target_N), CASES_AT_ONCE):
        top_BK = ranked.top_NK[start : start + CASES_AT_ONCE]
        case_M, place_M = np.nonzero(top_BK)
        columns = {
            "topic": chosen.rows_N[start + case_M],
            "item": names.gather(top_BK[case_M, place_M]),
            "rank": place_M + 1,
            "score": np.count_nonzero(top_BK, axis=1)[case_M] - place_M,
        }
        order = ("topic", pl.lit("Q0").alias("Q0"), "item", "rank", "score", pl.lit(tag).alias("tag"))
        _append(folder / f"{task}.run", pl.DataFrame(columns).select(*order))
        lines += len(case_M)
    return {
        "cases": len(target_N),
        "lines": lines,
        "tied": int((ranked.tied_N > 1).sum()),
        "target_not_listed": int((~(ranked.top_NK == target_N[:, None]).any(1)).sum()),
    }


def _append(file: Path, frame: pl.DataFrame) -> None:
    with file.open("ab") as opened:
        frame.write_csv(opened, include_header=False, separator=" ", quote_style="never")
