"""A served artifact of KuaiSAR's shape with random content and untrained weights: good for time and memory, for nothing else.

The histories are those of `train_step.build_world`. There items and words are drawn evenly, which a first stage finds too easy;
here a row is drawn with a frequency that falls with the 2/3 power of its rank, and ranks lie at random among the rows: the most
popular item is in 1 % of all events, the most frequent word in 1 % of all places of words.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from train_step import ITEMS, SEARCHES, WORDS, build_world, open_world

from corsar.artifact import build_model, save_artifact
from corsar.batch import Catalogue, Ragged
from corsar.config import load_config
from corsar.vocab import Vocab
from corsar.windows import History

ASKED = 5000  # queries that the load takes turns at


def make_artifact(out: Path, num_items: int = ITEMS) -> None:
    """Write the artifact, and `questions.json` beside it: the queries and the item ids that the load may use."""
    draw = np.random.default_rng(1)
    item_of, word_of = _skewed(draw, num_items), _skewed(draw, WORDS)
    with tempfile.TemporaryDirectory() as folder:
        build_world(Path(folder), num_items)
        dataset = open_world(Path(folder) / "counted")
        past, catalogue = dataset.history, dataset.catalogue
        dataset.history = History(
            **{field.name: getattr(past, field.name) for field in dataclasses.fields(past)}
            | {
                "feed_items": item_of[past.feed_items],
                "search_clicks": Ragged(item_of[past.search_clicks.values], past.search_clicks.offsets),
                "queries": Ragged(word_of[past.queries.values], past.queries.offsets),
            }
        )
        texts = Ragged(word_of[catalogue.item_words.values], catalogue.item_words.offsets)
        dataset.catalogue = Catalogue(texts, catalogue.item_categories, catalogue.user_attributes)
        dataset.items = Vocab(np.sort(draw.choice(10 * num_items, num_items, replace=False)))
        dataset.words = Vocab([f"w{row}" for row in range(1, WORDS + 1)])
        dataset._text = pl.Series([f"a text of item {row}" for row in range(1, num_items + 1)])
        dataset.manifest |= {"clock": "utc", "data_hash": None}
        dataset.manifest["counts"] |= {"cases": {"train": {"recommend": 0, "search": 0}}}
        config = load_config(None, {"preset": "corrected"})
        torch.manual_seed(0)
        model = build_model(config, dataset.sizes(config.data.feed_len, config.data.search_len)).eval()
        save_artifact(out, model, config, dataset)
        rows = torch.from_numpy(draw.choice(np.arange(1, SEARCHES + 1), ASKED, replace=False))
        queries = [" ".join(f"w{row}" for row in asked) for asked in _lists(dataset.history.queries.select(rows))]
        items = dataset.items.ids(dataset.history.feed_items[:ASKED].numpy()).to_list()
        told = {"users": len(dataset.users), "queries": queries, "items": items}
    (out / "questions.json").write_text(json.dumps(told))


def _skewed(draw: np.random.Generator, num: int) -> Any:
    """The row that each evenly drawn row becomes, [num + 1]."""
    rank = np.ceil(num * (np.arange(num + 1) / num) ** 3).astype(np.int64)
    return torch.from_numpy(np.append(0, draw.permutation(num) + 1)[rank])


def _lists(ragged: Ragged) -> list[list[int]]:
    return [part.tolist() for part in torch.tensor_split(ragged.values, ragged.offsets[1:-1])]
