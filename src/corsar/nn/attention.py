"""Multi-head attention on packed positions; target attention.

Shape suffixes: T packed query positions, S packed key positions, B rows, L slots, C candidates, D channels, H heads,
E channels a head, N rows head by head, X keys and values side by side, P keys and values.
"""

from __future__ import annotations

import math
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
    """Attention chunk by chunk with a hand-written backward: heads are told apart in the copy that pads the rows.

    Autograd would keep, transpose and copy each of queries, keys and values once a head and way.
    """

    @staticmethod
    def forward(
        ctx: Any, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, heads: int, dropout: float, empty: Empty
    ) -> Tensor:
        scale = (q_TD.shape[1] // heads) ** -0.5
        fill = -math.inf if empty == "nan" else torch.finfo(q_TD.dtype).min
        out_TD, kept = torch.empty_like(q_TD), []
        parts = (at.split(q_TD), memory.split(kv_SX), at.split(out_TD))
        for rows, keys, q, kv, put in zip(at.chunks, memory.chunks, *parts, strict=True):
            (q_NLE,) = rows.to_heads(q, heads)
            k_NSE, v_NSE = keys.to_heads(kv, heads, 2, clean=empty == "nan" or keys.has_empty)
            logits_NLS = q_NLE.new_empty(*q_NLE.shape[:2], k_NSE.shape[1])
            torch.baddbmm(logits_NLS, q_NLE, k_NSE.transpose(1, 2), beta=0, alpha=scale, out=logits_NLS)
            if not keys.is_full:
                logits_NLS.view(heads, -1, *logits_NLS.shape[1:]).masked_fill_(~keys.is_real_BL[:, None], fill)
            weights_NLS = used_NLS = logits_NLS.softmax(-1)
            mask = None
            if dropout:
                mask = dropout_mask(weights_NLS, dropout)
                used_NLS = weights_NLS * mask
            rows.from_heads(used_NLS @ v_NSE, heads, 1, put)
            kept += [q_NLE, k_NSE, v_NSE, weights_NLS, used_NLS, mask]
        ctx.save_for_backward(*kept)
        ctx.at, ctx.memory, ctx.heads, ctx.scale = at, memory, heads, scale
        return out_TD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, heads, scale = ctx.saved_tensors, ctx.heads, ctx.scale
        (grad_TD,), at, memory = grads, ctx.at, ctx.memory
        to_q_TD, to_kv_SX = torch.empty_like(grad_TD), grad_TD.new_empty(len(memory.at_T), 2 * grad_TD.shape[1])
        parts = (at.split(grad_TD), at.split(to_q_TD), memory.split(to_kv_SX))
        for i, (rows, keys, grad, put_q, put_kv) in enumerate(zip(at.chunks, memory.chunks, *parts, strict=True)):
            q_NLE, k_NSE, v_NSE, weights_NLS, used_NLS, mask = kept[6 * i : 6 * i + 6]
            (grad_NLE,) = rows.to_heads(grad, heads, clean=True)
            slope_NLS = (grad_NLE @ v_NSE.transpose(1, 2)).to(weights_NLS.dtype)
            if mask is not None:
                slope_NLS.mul_(mask)
            slope_NLS = torch._softmax_backward_data(slope_NLS, weights_NLS, -1, weights_NLS.dtype).to(q_NLE.dtype)
            to_q_NLE, to_kv_PNSE = torch.empty_like(q_NLE), k_NSE.new_empty(2, *k_NSE.shape)
            torch.baddbmm(to_q_NLE, slope_NLS, k_NSE, beta=0, alpha=scale, out=to_q_NLE)
            torch.baddbmm(to_kv_PNSE[0], slope_NLS.transpose(1, 2), q_NLE, beta=0, alpha=scale, out=to_kv_PNSE[0])
            torch.bmm(used_NLS.transpose(1, 2).to(q_NLE.dtype), grad_NLE, out=to_kv_PNSE[1])
            rows.from_heads(to_q_NLE, heads, 1, put_q)
            keys.from_heads(to_kv_PNSE, heads, 2, put_kv)
        return to_q_TD, to_kv_SX, None, None, None, None, None


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
