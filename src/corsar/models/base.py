"""The contract of a model: numbers in, scores and named loss terms out. Nothing here opens a file or names a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents

Terms = dict[str, Tensor]


class Model(nn.Module):
    """Base of all models. A trained one writes `loss`; an untrained one writes `count` and has no loss."""

    class Config(BaseModel):
        """Settings of the `[model]` section; an unknown key is an error."""

        model_config = ConfigDict(extra="forbid", frozen=True)

    trained: ClassVar[bool] = True  # False: `count` is all there is to learn
    tasks: ClassVar[tuple[str, ...]] = ("recommend", "search")

    def __init__(self, config: BaseModel, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Scores of the candidates, [B, C]; higher is better, unbounded, finite."""
        raise NotImplementedError  # abstract

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What scores candidates [B, C] out of `items_R` for the cases of the batch; it reads their histories once."""
        return lambda candidates_BC: self.score(replace(batch, candidates_BC=candidates_BC))

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """Named scalar terms; column 0 of the candidates is the positive, the others are negatives."""
        raise NotImplementedError  # abstract

    def term_weights(self) -> dict[str, float]:
        """Weight of each loss term; a term that is not named weighs 1."""
        return {}

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Take stored weights; buffers, which are counts and have no fixed size, are taken by name."""
        counts = {name for name, _ in self.named_buffers()} if self.trained else set(tensors)
        for name in counts & set(tensors):
            owner, _, last = name.rpartition(".")
            self.get_submodule(owner).register_buffer(last, tensors[name])
        self.load_state_dict(tensors)

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Fill the buffers from the training part: all that an untrained model learns, and what a trained one begins with."""

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """Vectors of item rows of a trained model, [R, D]: alike where they point the same way."""
        raise NotImplementedError  # abstract

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """How alike all items are to the given ones by the counts of an untrained model, [B, items + 1]; higher is more."""
        raise NotImplementedError  # abstract
