"""Multi-head attention on packed positions; target attention.

Shape suffixes: T packed query positions, S packed key positions, B rows, L slots, C candidates, D channels, H heads,
E channels a head, X keys and values side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.nn.dropout import dropout_mask
from corsar.nn.packing import Packing

Empty = Literal["zero", "nan"]


def masked_softmax(logits: Tensor, is_real: Tensor, empty: Empty, is_full: bool = False) -> Tensor:
    """Softmax over the last axis where `is_real`; a row without real entries is uniform (its values are 0) or NaN."""
    if is_full:
        return logits.softmax(-1)
    fill = torch.finfo(logits.dtype).min if empty == "zero" else -math.inf
    return logits.masked_fill(~is_real, fill).softmax(-1)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention over the real keys of the same row; parameters as torch.nn.MultiheadAttention."""

    def __init__(self, dim: int, heads: int, dropout: float, empty: Empty = "zero") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.dim, self.heads, self.dropout, self.empty = dim, heads, dropout, empty
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def queries(self, x_TD: Tensor) -> Tensor:
        """[T, D]."""
        return F.linear(x_TD, self.in_proj.weight[: self.dim], self.in_proj.bias[: self.dim])

    def memory(self, x_SD: Tensor) -> Tensor:
        """Keys and values side by side, [S, 2 D]."""
        return F.linear(x_SD, self.in_proj.weight[self.dim :], self.in_proj.bias[self.dim :])

    def attend(self, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, merged: bool = False) -> Tensor:
        """What each query position reads, before the output map, [T, D]; where they stand in merged rows is not read."""
        dropout = self.dropout if self.training else 0.0
        read: Tensor = _Attend.apply(q_TD, kv_SX, at, memory, self.heads, dropout, self.empty)  # type: ignore[no-untyped-call]
        return read


class _Attend(torch.autograd.Function):
    """Attention chunk by chunk with a hand-written backward: no copy for the heads, one for what is padded.

    Autograd would keep, transpose and copy each of queries, keys and values once a head and way.
    """

    @staticmethod
    def forward(
        ctx: Any, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, heads: int, dropout: float, empty: Empty
    ) -> Tensor:
        out_TD, kept = torch.empty_like(q_TD), []
        for rows, keys, q, kv, out in zip(
            at.chunks, memory.chunks, at.split(q_TD), memory.split(kv_SX), at.split(out_TD), strict=True
        ):
            q_BLD, kv_BSX = rows.unpack(q), keys.unpack(kv)
            logits_HBLS = q.new_empty(heads, len(q_BLD), q_BLD.shape[1], kv_BSX.shape[1])
            for h, (q_h, k_h, _) in enumerate(_heads(q_BLD, kv_BSX, heads)):
                torch.bmm(q_h, k_h.transpose(1, 2), out=logits_HBLS[h])
            scale = (q.shape[1] // heads) ** -0.5
            weights = masked_softmax(logits_HBLS.mul_(scale), keys.is_real_BL[:, None], empty, keys.is_full)
            mask = dropout_mask(weights, dropout) if dropout else None
            used = weights if mask is None else weights * mask
            out.copy_(rows.pack(torch.cat([used[h] @ v_h for h, (_, _, v_h) in enumerate(_heads(q_BLD, kv_BSX, heads))], -1)))
            kept += [weights, used, mask]
        ctx.save_for_backward(q_TD, kv_SX, *kept)
        ctx.at, ctx.memory, ctx.heads = at, memory, heads
        return out_TD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_TD, kv_SX, *kept = ctx.saved_tensors
        at, memory, heads = ctx.at, ctx.memory, ctx.heads
        scale = (q_TD.shape[1] // heads) ** -0.5
        to_q, to_kv = torch.empty_like(q_TD), torch.empty_like(kv_SX)
        parts = [at.split(x) for x in (q_TD, grads[0], to_q)] + [memory.split(x) for x in (kv_SX, to_kv)]
        for i, (rows, keys, q, grad, put_q, kv, put_kv) in enumerate(zip(at.chunks, memory.chunks, *parts, strict=True)):
            weights, used, mask = kept[3 * i : 3 * i + 3]
            q_BLD, kv_BSX, grad_BLD = rows.unpack(q), keys.unpack(kv), rows.unpack(grad)
            slope = torch.empty_like(weights)
            for h, (grad_h, _, v_h) in enumerate(_heads(grad_BLD, kv_BSX, heads)):
                torch.bmm(grad_h, v_h.transpose(1, 2), out=slope[h])
            if mask is not None:
                slope.mul_(mask)
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype).mul_(scale)
            to_heads = [
                (slope[h] @ k_h, slope[h].transpose(1, 2) @ q_h, used[h].transpose(1, 2) @ grad_h)
                for h, ((q_h, k_h, _), grad_h) in enumerate(
                    zip(_heads(q_BLD, kv_BSX, heads), grad_BLD.chunk(heads, -1), strict=True)
                )
            ]
            to_q_h, to_k_h, to_v_h = zip(*to_heads, strict=True)
            put_q.copy_(rows.pack(torch.cat(to_q_h, -1)))
            put_kv.copy_(keys.pack(torch.cat([*to_k_h, *to_v_h], -1)))
        return to_q, to_kv, None, None, None, None, None


def _heads(q_BLD: Tensor, kv_BSX: Tensor, heads: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Views of queries, keys and values for each head."""
    k_BSD, v_BSD = kv_BSX.chunk(2, dim=-1)
    return zip(*(x.chunk(heads, dim=-1) for x in (q_BLD, k_BSD, v_BSD)), strict=True)


class TargetAttention(nn.Module):
    """One interest vector a candidate: the history weighed by softmax(h W target) over its real positions."""

    def __init__(self, dim: int, empty: Empty = "zero") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.empty = empty

    def forward(self, history_TD: Tensor, at: Packing, target_BCD: Tensor) -> Tensor:
        """[B, C, D]; a row without history gives 0."""
        by_target = target_BCD.shape[1] <= at.shape[1]  # the cheaper side goes through the matrix
        target_BCD, keys_TD = (target_BCD @ self.weight.T, history_TD) if by_target else (target_BCD, history_TD @ self.weight)
        parts = zip(at.chunks, at.split(history_TD), at.split(keys_TD), torch.split(target_BCD, at.rows), strict=True)
        read = []
        for rows, values_TD, keys_TD, target in parts:
            values_BLD = rows.unpack(values_TD)
            keys_BLD = values_BLD if by_target else rows.unpack(keys_TD)
            logits_BCL = target @ keys_BLD.transpose(1, 2)
            read.append(masked_softmax(logits_BCL, rows.is_real_BL[:, None, :], self.empty, rows.is_full) @ values_BLD)
        return torch.cat(read)
