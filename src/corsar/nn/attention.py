"""Multi-head attention, post-norm encoder and decoder layers on packed positions; target attention.

Equal to torch's TransformerEncoderLayer and TransformerDecoderLayer at real positions (tested, forward and gradient), but a
row without any key gives 0 instead of NaN. Shape suffixes: T packed query positions, S packed key positions, B rows, L slots,
C candidates, D channels, H heads, E channels a head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.nn.dropout import Dropout
from corsar.nn.packing import Packing, Rows

Empty = Literal["zero", "nan"]


def masked_softmax(logits: Tensor, is_real: Tensor, empty: Empty) -> Tensor:
    """Softmax over the last axis where `is_real`; a row without real entries is uniform (its values are 0) or NaN."""
    fill = torch.finfo(logits.dtype).min if empty == "zero" else -math.inf
    return logits.masked_fill(~is_real, fill).softmax(-1)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention over the real keys of the same row; parameters as torch.nn.MultiheadAttention."""

    def __init__(self, dim: int, heads: int, dropout: float, empty: Empty = "zero") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.dim, self.heads, self.empty = dim, heads, empty
        self.drop = Dropout(dropout)
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the same positions by one product, each [T, D]."""
        q, k, v = self.in_proj(x_TD).chunk(3, dim=-1)
        return q, k, v

    def project_query(self, x_TD: Tensor) -> Tensor:
        """Queries alone, [T, D]."""
        return F.linear(x_TD, self.in_proj.weight[: self.dim], self.in_proj.bias[: self.dim])

    def project_memory(self, x_SD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values alone, each [S, D]."""
        k, v = F.linear(x_SD, self.in_proj.weight[self.dim :], self.in_proj.bias[self.dim :]).chunk(2, dim=-1)
        return k, v

    def attend(self, q_TD: Tensor, k_SD: Tensor, v_SD: Tensor, at: Packing, memory: Packing) -> Tensor:
        """What each query position reads, before the output map, [T, D]."""
        parts = zip(at.chunks, memory.chunks, at.split(q_TD), memory.split(k_SD), memory.split(v_SD), strict=True)
        return torch.cat([self._attend(*part) for part in parts])

    def _attend(self, at: Rows, memory: Rows, q_TD: Tensor, k_SD: Tensor, v_SD: Tensor) -> Tensor:
        q_BHLE = self._by_head(q_TD, at) * (self.dim // self.heads) ** -0.5
        logits_BHLL = q_BHLE @ self._by_head(k_SD, memory).transpose(-1, -2)
        weights = self.drop(masked_softmax(logits_BHLL, memory.is_real_BL[:, None, None, :], self.empty))
        return at.pack((weights @ self._by_head(v_SD, memory)).transpose(1, 2).reshape(*at.shape, self.dim))

    def _by_head(self, x_TD: Tensor, at: Rows) -> Tensor:
        return at.unpack(x_TD).view(*at.shape, self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """linear, ReLU, linear, with dropout after each."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1, self.linear2, self.drop = nn.Linear(dim, hidden), nn.Linear(hidden, dim), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        out: Tensor = self.drop(self.linear2(self.drop(F.relu(self.linear1(x)))))
        return out


class EncoderLayer(nn.Module):
    """Post-norm transformer encoder layer: attention within one sequence, or between two that share its weights."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, empty: Empty = "zero") -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, dropout, empty)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.norm1, self.norm2, self.drop = nn.LayerNorm(dim), nn.LayerNorm(dim), Dropout(dropout)

    def forward(self, x_TD: Tensor, at: Packing) -> Tensor:
        """Each position reads the real positions of its own row, [T, D]."""
        q, k, v = self.attention.project(x_TD)
        return self._finish(x_TD, self.attention.attend(q, k, v, at, at))

    def between(self, x_TD: Tensor, y_SD: Tensor, at: Packing, other: Packing) -> tuple[Tensor, Tensor]:
        """Each position of x reads y and each of y reads x: what a merged sequence gives when own kind is masked.

        The order of the merged sequence enters by the position embeddings alone, so no merge is needed.
        """
        both = torch.cat([x_TD, y_SD])
        q, k, v = self.attention.project(both)
        sizes = [len(x_TD), len(y_SD)]
        (qx, qy), (kx, ky), (vx, vy) = (torch.split(part, sizes) for part in (q, k, v))
        read = torch.cat([
            self.attention.attend(qx, ky, vy, at, other),
            self.attention.attend(qy, kx, vx, other, at),
        ])  # fmt: skip
        x, y = torch.split(self._finish(both, read), sizes)
        return x, y

    def _finish(self, x_TD: Tensor, read_TD: Tensor) -> Tensor:
        x_TD = self.norm1(x_TD + self.drop(self.attention.out_proj(read_TD)))
        out: Tensor = self.norm2(x_TD + self.feed_forward(x_TD))
        return out


class DecoderLayer(nn.Module):
    """Post-norm transformer decoder layer: the target reads itself, then a memory; no causal mask."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, empty: Empty = "zero") -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, heads, dropout, empty)
        self.cross_attention = MultiHeadAttention(dim, heads, dropout, empty)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = Dropout(dropout)

    def forward(self, x_TD: Tensor, memory_SD: Tensor, at: Packing, memory: Packing) -> Tensor:
        """[T, D] of the target positions."""
        q, k, v = self.self_attention.project(x_TD)
        read = self.self_attention.attend(q, k, v, at, at)
        x_TD = self.norm1(x_TD + self.drop(self.self_attention.out_proj(read)))
        q = self.cross_attention.project_query(x_TD)
        k, v = self.cross_attention.project_memory(memory_SD)
        read = self.cross_attention.attend(q, k, v, at, memory)
        x_TD = self.norm2(x_TD + self.drop(self.cross_attention.out_proj(read)))
        out: Tensor = self.norm3(x_TD + self.feed_forward(x_TD))
        return out


class TargetAttention(nn.Module):
    """One interest vector a candidate: the history weighed by softmax(h W target) over its real positions."""

    def __init__(self, dim: int, empty: Empty = "zero") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.empty = empty

    def forward(self, history_TD: Tensor, at: Packing, target_BCD: Tensor) -> Tensor:
        """[B, C, D]; a row without history gives 0."""
        parts = zip(at.chunks, at.split(history_TD), at.split(history_TD @ self.weight), strict=True)
        read = []
        for (rows, values_TD, keys_TD), target in zip(parts, target_BCD.split(at.chunk), strict=True):  # type: ignore[no-untyped-call]
            logits_BCL = target @ rows.unpack(keys_TD).transpose(1, 2)
            weights_BCL = masked_softmax(logits_BCL, rows.is_real_BL[:, None, :], self.empty)
            read.append(weights_BCL @ rows.unpack(values_TD))
        return torch.cat(read)
