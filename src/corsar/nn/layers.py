"""Post-norm encoder and decoder layers on packed positions, around any mixer.

With attention they equal torch's TransformerEncoderLayer and TransformerDecoderLayer at real positions (tested, forward and
gradient), but a row without any key gives 0 instead of NaN. Shape suffixes: T and S packed positions, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.nn.attention import MultiHeadAttention
from corsar.nn.dropout import Dropout
from corsar.nn.mixers import PackedAutoCorrelation, PackedFourier, PackedLagZero
from corsar.nn.packing import Packing

Mixer = MultiHeadAttention | PackedAutoCorrelation | PackedFourier | PackedLagZero


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

    def __init__(self, mixer: Mixer, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = mixer
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.norm1, self.norm2, self.drop = nn.LayerNorm(dim), nn.LayerNorm(dim), Dropout(dropout)

    def forward(self, x_TD: Tensor, at: Packing) -> Tensor:
        """Each position reads the real positions of its own row, [T, D]."""
        read = self.attention.attend(self.attention.queries(x_TD), self.attention.memory(x_TD), at, at)
        return self._finish(x_TD, read)

    def between(self, x_TD: Tensor, y_SD: Tensor, at: Packing, other: Packing) -> tuple[Tensor, Tensor]:
        """Each position of x reads y and each of y reads x: what a merged sequence gives when own kind is masked.

        With attention the order of the merged sequence enters by the position embeddings alone, so no merge is needed.
        """
        both = torch.cat([x_TD, y_SD])
        sizes = [len(x_TD), len(y_SD)]
        (qx, qy), (kx, ky) = (torch.split(part, sizes) for part in (self.attention.queries(both), self.attention.memory(both)))
        read = torch.cat([self.attention.attend(qx, ky, at, other, True), self.attention.attend(qy, kx, other, at, True)])
        x, y = torch.split(self._finish(both, read), sizes)
        return x, y

    def _finish(self, x_TD: Tensor, read_TD: Tensor) -> Tensor:
        x_TD = self.norm1(x_TD + self.drop(self.attention.out_proj(read_TD)))
        out: Tensor = self.norm2(x_TD + self.feed_forward(x_TD))
        return out


class DecoderLayer(nn.Module):
    """Post-norm transformer decoder layer: the target reads itself, then a memory; no causal mask."""

    def __init__(self, own: Mixer, cross: Mixer, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = own, cross
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = Dropout(dropout)

    def forward(self, x_TD: Tensor, memory_SD: Tensor, at: Packing, memory: Packing) -> Tensor:
        """[T, D] of the target positions."""
        read = self.self_attention.attend(self.self_attention.queries(x_TD), self.self_attention.memory(x_TD), at, at)
        x_TD = self.norm1(x_TD + self.drop(self.self_attention.out_proj(read)))
        read = self.cross_attention.attend(
            self.cross_attention.queries(x_TD), self.cross_attention.memory(memory_SD), at, memory, True
        )
        x_TD = self.norm2(x_TD + self.drop(self.cross_attention.out_proj(read)))
        out: Tensor = self.norm3(x_TD + self.feed_forward(x_TD))
        return out
