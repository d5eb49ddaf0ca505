"""The items whose vectors have the largest products with a user's: exactly, block by block, or by faiss where there are many.

faiss (extra `faiss`) cuts the vectors into groups and looks into a few of them (IVFFlat, Johnson et al., "Billion-Scale
Similarity Search with GPUs", IEEE Transactions on Big Data 2021); what that finds of the exact answer is told in
docs/results/first_stage.md. Without it every catalogue is searched exactly.

Shape suffixes: B questions, I item rows, E channels, K found, J items of a block.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from corsar.batch import SearchRecommendBatch
from corsar.models.base import Model
from corsar.models.towers import TwoTower

BLOCK = 1 << 16  # items whose products are held at once, for each question
APPROXIMATE = 100_000  # items above which faiss is used, where it is installed
PROBES = 128  # groups that are looked into
SEEN = 64  # vectors of each group that the groups are learned from
MADE = 1 << 14  # items whose vectors are made at once


class VectorIndex:
    """Vectors of all item rows, on the device where they lie."""

    def __init__(self, vectors_IE: Tensor, *, approximate: bool | None = None) -> None:
        """Keep the vectors, or cut them into groups.

        Args:
            vectors_IE: of row 0 too, which is never found.
            approximate: True for faiss, False for the exact search; None for faiss above 100,000 items where it is installed.
        """
        if approximate is None:
            approximate = len(vectors_IE) > APPROXIMATE and importlib.util.find_spec("faiss") is not None
        self._vectors_IE, self._groups = vectors_IE, _groups(vectors_IE) if approximate else None
        if self._groups is not None:
            self._vectors_IE = vectors_IE[:1].clone()  # faiss holds its own

    def best(self, users_BE: Tensor, num: int) -> Tensor:
        """Rows of the `num` items with the largest products, the best first, 0 behind the last, [B, K], on the CPU."""
        if self._groups is not None:
            _, rows_BK = self._groups.search(users_BE.cpu().numpy(), num)
            return torch.from_numpy(rows_BK) + 1  # it says -1 where it found no more
        return _blocked(self._vectors_IE, users_BE.to(self._vectors_IE.device), num).cpu()


class Nearest:
    """The items nearest to a user by the two towers of a model."""

    def __init__(self, model: Model, towers: TwoTower, batch: SearchRecommendBatch, *, approximate: bool | None = None) -> None:
        """Make the vectors of all items once.

        Args:
            batch: any of the catalogue.
        """
        self._model, self._towers = model, towers
        parts = []
        with torch.inference_mode():
            for rows in torch.split(torch.arange(batch.catalogue.num_items + 1), MADE):
                parts.append(towers.item_vectors(rows, model.item_vectors(batch, rows)))
        self._index = VectorIndex(torch.cat(parts), approximate=approximate)

    def best(self, batch: SearchRecommendBatch, num: int) -> Tensor:
        """Item rows for each question, the best first, 0 behind the last, [B, K]."""
        with torch.inference_mode():
            return self._index.best(self._towers.user_vectors(self._model, batch), num)


def _blocked(vectors_IE: Tensor, users_BE: Tensor, num: int) -> Tensor:
    num = min(num, len(vectors_IE) - 1)
    best_BK, rows_BK = (
        users_BE.new_zeros(len(users_BE), 0),
        torch.zeros(len(users_BE), 0, dtype=torch.int64).to(users_BE.device),
    )
    for start in range(1, len(vectors_IE), BLOCK):
        products_BJ = users_BE @ vectors_IE[start : start + BLOCK].T
        of_block = products_BJ.topk(min(num, products_BJ.shape[1]))
        values_BK = torch.cat([best_BK, of_block.values], 1)
        rows_BK = torch.cat([rows_BK, of_block.indices + start], 1)
        best_BK, at_BK = values_BK.topk(min(num, values_BK.shape[1]))
        rows_BK = rows_BK.gather(1, at_BK)
    return rows_BK


def _groups(vectors_IE: Tensor) -> Any:
    import faiss  # an extra, and it takes its time

    vectors = vectors_IE[1:].cpu().contiguous().numpy()
    num = max(1, round(len(vectors) ** 0.5))
    flat = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(flat, vectors.shape[1], num, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = 1, SEEN, 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(num, PROBES)
    return index
