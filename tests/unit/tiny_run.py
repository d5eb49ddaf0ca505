"""A tiny dataset and a tiny model, for tests of training and artifacts; as a program it trains the model once.

The environment variable TINY_SIGNAL, "SIGINT:7", makes the model send its own process that signal in its 7th loss.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.config import Config, load_config
from corsar.data.build import build_dataset
from corsar.models import MODELS
from corsar.models.base import Model, Terms
from corsar.schema import make_tables

USERS, ITEMS, EACH = 40, 30, 9
TEXTS = ["red shoe", "blue hat", "old map"]


def register() -> None:
    """Make the models below known under the names "tiny" and "counted"."""
    MODELS["tiny"] = f"{__name__}:TinyNet"
    MODELS["counted"] = f"{__name__}:Counted"
    sys.modules.setdefault(__name__, sys.modules["__main__"])


class TinyNet(Model):
    """Dot product of the history's mean and the candidate, with dropout."""

    class Config(Model.Config):
        name: str = "tiny"
        dim: int = Field(8, ge=1)
        broken: bool = False  # its second term is not finite
        empty_history: str = "zero"

    losses: ClassVar[int] = 0

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.item = nn.Embedding(sizes.num_items + 1, config.dim)
        self.words = nn.Embedding(sizes.num_words + 1, config.dim)
        self.bias = nn.Parameter(torch.zeros(2))
        self.drop = nn.Dropout(0.2)

    def term_weights(self) -> dict[str, float]:
        return {"size": 0.01}

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        real = batch.feed_is_real_BF[..., None]
        state = (F.embedding(batch.feed_items_BF, self.item.weight) * real).sum(1) / real.sum(1).clamp(min=1)
        rows = batch.queries.padded(batch.query_B, 4)
        state = self.drop(state + F.embedding(rows, self.words.weight).mean(1))
        items = F.embedding(batch.candidates_BC, self.item.weight)
        return (items @ state[..., None]).squeeze(-1) + self.bias[0 if batch.task == "recommend" else 1]

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        TinyNet.losses += 1
        name, _, number = os.environ.get("TINY_SIGNAL", "SIGINT:-1").partition(":")
        if TinyNet.losses == int(number):
            os.kill(os.getpid(), signal.Signals[name])
        logits = self.score(batch)
        target = torch.zeros_like(logits)
        target[:, 0] = 1
        size = self.item.weight.square().mean() / (0 if self.config.broken else 1)
        return {"click": F.binary_cross_entropy_with_logits(logits, target), "size": size}


class Counted(Model):
    """How often an item stands in the training part."""

    class Config(Model.Config):
        name: str = "counted"

    trained = False

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        self.register_buffer("counts", torch.bincount(events.item_E, minlength=catalogue.num_items + 1))

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        return self.counts[batch.candidates_BC].float()


def make_dataset(out: Path, seed: int = 0) -> Path:
    """A dataset of 40 users with feed events and searches in turn."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(100, 100 + USERS), EACH)
    kind = np.tile(["feed", "search", "feed"], USERS * EACH // 3)
    events = pl.DataFrame(
        {
            "user_id": user,
            "item_id": draw.integers(1000, 1000 + ITEMS, len(user)),
            "kind": kind,
            "time_ms": 1_600_000_000_000 + np.tile(np.arange(EACH), USERS) * 3_600_000 + user,
            "query": [draw.choice(TEXTS).item() if one == "search" else None for one in kind],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": np.arange(1000, 1000 + ITEMS),
            "text": [TEXTS[n % 3] for n in range(ITEMS)],
            "shelf": [n % 4 for n in range(ITEMS)],
        }
    )
    tables = make_tables(events, items, source="tiny", categories=("shelf",))
    return build_dataset(tables, out, split="leave_last")


def settings(data: Path, **more: str) -> Config:
    """Settings of a short run; keys of `more` are written section__key."""
    flags = {
        "data.path": str(data), "data.feed_len": "5", "data.search_len": "4", "model.name": "tiny",
        "train.epochs": "3", "train.batch_size": "16", "train.learning_rate": "0.01", "train.align_negatives": "4",
        "train.checkpoint_every": "3", "train.valid_negatives": "9", "run.threads": "1",
    }  # fmt: skip
    return load_config(None, {**flags, **{key.replace("__", "."): value for key, value in more.items()}})


if __name__ == "__main__":
    from corsar.train.loop import train

    register()
    train(settings(Path(sys.argv[1])), Path(sys.argv[2]), resume="--resume" in sys.argv)
