"""Real positions of a padded batch as one flat list, so that padding costs nothing and can change nothing.

Shape suffixes: B rows, L slots, T real positions (all rows one after another), E channels, H heads,
P parts that stand side by side in the channels (keys and values).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 128  # rows that go together; where rows stand in order of length, each chunk is little wider than its rows
SLOTS = 4096  # places of a chunk of rows that attend together


def chunks_of(length_B: Tensor) -> list[int]:
    """How many rows go together, so that rows times the longest of them stay near `SLOTS`: many short ones, few long ones."""
    sizes, rows = [], 0
    for length in length_B.tolist():
        if rows and (rows + 1) * length > SLOTS:
            sizes.append(rows)
            rows = 0
        rows += 1
    return [*sizes, rows] if rows or not sizes else sizes


class Rows:
    """Rows of a padded batch, and where their real positions stand."""

    def __init__(self, is_real_BL: Tensor) -> None:
        self.is_real_BL = is_real_BL
        self.shape = is_real_BL.shape
        self.at_T = is_real_BL.reshape(-1).nonzero().squeeze(1)
        self.is_full = len(self.at_T) == is_real_BL.numel()
        self.has_empty = not self.is_full and not bool(is_real_BL.any(1).all())
        self._places: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def pack(self, padded_BLE: Tensor) -> Tensor:
        """The real positions, [T, ...]."""
        flat = padded_BLE.reshape(-1, *padded_BLE.shape[2:])
        return flat if self.is_full else flat.index_select(0, self.at_T)

    def unpack(self, packed_TE: Tensor) -> Tensor:
        """The rows with zeros at padding, [B, L, E]."""
        flat = packed_TE
        if not self.is_full:
            flat = _Place.apply(packed_TE, self.at_T, self.is_real_BL.numel())  # type: ignore[no-untyped-call]
        return flat.reshape(*self.shape, *packed_TE.shape[1:])

    def to_heads(self, packed_TE: Tensor, heads: int, parts: int = 1, *, clean: bool = False) -> Tensor:
        """Rows head by head, [P, H B, L, E / H / P], in one copy; at padding any real position, or zeros where `clean`."""
        size, (places, _) = packed_TE.shape[1] // (heads * parts), self._at_heads(heads, parts)
        if not len(self.at_T):
            return packed_TE.new_zeros(parts, heads * self.shape[0], self.shape[1], size)
        spread = packed_TE.reshape(-1, size).index_select(0, places).view(parts * heads, *self.shape, size)
        if clean and not self.is_full:
            spread.masked_fill_(~self.is_real_BL[..., None], 0)
        return spread.view(parts, heads * self.shape[0], self.shape[1], size)

    def from_heads(self, spread: Tensor, heads: int, parts: int, out_TE: Tensor) -> None:
        """Write the real positions of what `to_heads` gives into `out_TE`, [T, E]."""
        size, (_, places) = spread.shape[-1], self._at_heads(heads, parts)
        torch.index_select(spread.view(-1, size).to(out_TE.dtype), 0, places, out=out_TE.view(-1, size))

    def _at_heads(self, heads: int, parts: int) -> tuple[Tensor, Tensor]:
        """Where each padded position of each part and head stands among the packed ones, and the other way round."""
        if (heads, parts) not in self._places:
            each = torch.arange(parts * heads, device=self.at_T.device)
            packed = (self.is_real_BL.reshape(-1).cumsum(0) - 1).clamp_(min=0)
            spread = packed * len(each) + each[:, None]
            self._places[heads, parts] = spread.view(-1), (each * len(packed) + self.at_T[:, None]).view(-1)
        return self._places[heads, parts]


class Packing(Rows):
    """A whole batch. Linear maps, norms and feed-forward nets work on its packed positions [T, E].

    Only attention needs the rows back; it takes them chunk by chunk, each as wide as its longest row. Where the rows are parts
    of merged ones, `slots_BL` says where each position stands there, and `merged_B` how long those are. Two that attend to
    each other need the same `rows` in their chunks.
    """

    def __init__(
        self, is_real_BL: Tensor, rows: list[int] | None = None, slots_BL: Tensor | None = None, merged_B: Tensor | None = None
    ) -> None:
        super().__init__(is_real_BL)
        self.slots_BL, self.merged_B = slots_BL, merged_B
        self.length_B = is_real_BL.sum(1)
        self.rows = chunks_of(self.length_B) if rows is None else rows  # of each chunk
        parts = torch.split(self.length_B, self.rows)
        self.sizes = [int(part.sum()) for part in parts]  # packed positions of each chunk
        widths = [max(1, int(part.max())) for part in parts]
        self.chunks = [Rows(part[:, :w]) for part, w in zip(torch.split(is_real_BL, self.rows), widths, strict=True)]

    def split(self, packed_TE: Tensor) -> tuple[Tensor, ...]:
        """The packed positions of each chunk."""
        parts: tuple[Tensor, ...] = torch.split(packed_TE, self.sizes)
        return parts

    def mean(self, packed_TE: Tensor) -> Tensor:
        """Mean over the real positions of each row, 0 where a row has none, [B, E]."""
        sums = [rows.unpack(part).sum(1) for rows, part in zip(self.chunks, self.split(packed_TE), strict=True)]
        return torch.cat(sums) / self.length_B.clamp(min=1).unsqueeze(1)


class _Place(torch.autograd.Function):
    """Zeros with the given rows at distinct positions."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, at: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(at)
        return packed.new_zeros(size, *packed.shape[1:]).index_copy_(0, at, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (at,) = ctx.saved_tensors
        return grads[0].index_select(0, at), None, None
