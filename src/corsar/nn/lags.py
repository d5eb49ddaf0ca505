"""Lags at which sequences repeat: scores of all lags, the choice of the best, and sums of shifted sequences.

A row of length n is a ring of n places; what stands behind its length must be 0. Shape suffixes: B rows, L slots, D channels,
M kept lags.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 128  # up to this many slots, a product of matrices is faster than an FFT
TIE = 1e-4  # scores this near to each other, as a share of the highest, are equal


def lag_scores(q_BLD: Tensor, k_BLD: Tensor, length_B: Tensor | None = None) -> Tensor:
    """R(τ) = Σ_t q[t + τ] · k[t] around each row's length, summed over channels, [B, L]; a lag behind the length means nothing.

    The mean over channels that the paper takes commutes with the inverse FFT, so that one serves all channels.
    """
    slots = q_BLD.shape[1]
    lag_L = torch.arange(slots, device=q_BLD.device)
    if slots <= SHORT or torch.compiler.is_exporting() or q_BLD.numel() == 0:  # FFTs neither export nor take empty batches
        ring = slots if length_B is None else length_B.clamp(min=1)[:, None, None]
        from_BLL = (lag_L[:, None] + lag_L) % ring  # lag, place -> place of the query
        products_BLL = q_BLD @ k_BLD.transpose(1, 2)
        score_BL: Tensor = products_BLL.gather(1, from_BLL.expand(q_BLD.shape[0], -1, -1)).sum(2)
        return score_BL
    size = slots if length_B is None else 1 << (2 * slots - 1).bit_length()
    spectrum_BF = (torch.fft.rfft(q_BLD, size, 1) * torch.fft.rfft(k_BLD, size, 1).conj()).sum(2)
    scores_BN: Tensor = torch.fft.irfft(spectrum_BF, size, 1)
    if length_B is None:
        return scores_BN
    around_BL = (lag_L - length_B[:, None]) % size  # a ring of n places meets itself again n places on
    return scores_BN[:, :slots] + scores_BN.gather(1, around_BL)


def num_kept(length: Tensor, factor: float) -> Tensor:
    """int(factor · ln length), at least 1 and at most the length, in the shape of `length`."""
    return (factor * length.double().clamp(min=1).log()).long().clamp(min=1).minimum(length.clamp(min=1))


def most_kept(slots: int, factor: float) -> int:
    """The most lags that a row of at most `slots` places keeps; a plain number, so that no device is asked for it."""
    return min(max(1, int(factor * math.log(slots))), slots)


def choose_lags(score_BL: Tensor, allowed_BL: Tensor, keep_B: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The `keep` best allowed lags of each row, and which of the M = `most` columns count, both [B, M].

    Lags whose scores lie within `TIE` of the last that gets in are tied with it, and the smaller lags win, so that the noise
    of one FFT or another cannot choose. Each row must allow as many lags as it keeps.
    """
    slots = score_BL.shape[1]
    masked_BL = score_BL.masked_fill(~allowed_BL, -torch.inf)
    best_BM = masked_BL.topk(most, 1).values
    cut_B1 = best_BM.gather(1, (keep_B - 1).clamp(min=0)[:, None])
    near_B1 = TIE * best_BM[:, :1].abs()
    sure_BL, tied_BL = masked_BL > cut_B1 + near_B1, masked_BL >= cut_B1 - near_B1
    order_L = torch.arange(slots, 0, -1, device=score_BL.device)
    turn_BL = order_L * (tied_BL & allowed_BL) + slots * sure_BL
    return turn_BL.topk(most, 1).indices, torch.arange(most, device=score_BL.device) < keep_B[:, None]


def lag_weights(logit_BM: Tensor, is_kept_BM: Tensor) -> Tensor:
    """Softmax over the columns that count, and 0 at the others, in the shape of the logits."""
    return logit_BM.masked_fill(~is_kept_BM, torch.finfo(logit_BM.dtype).min).softmax(-1) * is_kept_BM


def places(lag_BM: Tensor, slots: int, length_B: Tensor | None, back: bool) -> Tensor:
    """Where each place reads at each lag, as rows of all slots of the batch, [B · L, M]; behind the length: anywhere."""
    few_BM = lag_BM.int()  # half the memory to write and read
    at_L1 = torch.arange(slots, device=lag_BM.device, dtype=torch.int32)[:, None]
    ring_B11 = few_BM.new_full((len(lag_BM),), slots) if length_B is None else length_B.int()
    ring_B11 = ring_B11.clamp(min=1)[:, None, None]
    read_BLM = at_L1 - few_BM[:, None] if back else at_L1 + few_BM[:, None] - ring_B11  # from -ring to ring
    read_BLM += (read_BLM < 0) * ring_B11
    start_B = torch.arange(len(lag_BM), device=lag_BM.device, dtype=torch.int32) * slots
    return (read_BLM.clamp_(min=0, max=slots - 1) + start_B[:, None, None]).flatten(0, 1)


def _gathered_sum(x_BLD: Tensor, place_NM: Tensor, weight_BM: Tensor) -> Tensor:
    weight_NM = weight_BM[:, None].expand(-1, x_BLD.shape[1], -1).reshape(place_NM.shape)
    flat_ND = x_BLD.reshape(-1, x_BLD.shape[2])
    return F.embedding_bag(place_NM, flat_ND, mode="sum", per_sample_weights=weight_NM).view(x_BLD.shape)


def _gathered_dots(x_BLD: Tensor, y_BLD: Tensor, place_NM: Tensor) -> Tensor:
    """Σ_t x[t] · y[where t reads], [B, M]."""
    slots, kept = x_BLD.shape[1], place_NM.shape[1]
    bag = torch.arange(len(place_NM), device=x_BLD.device, dtype=torch.int32).repeat_interleave(kept)
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x_BLD.reshape(-1, x_BLD.shape[2]), y_BLD.reshape(-1, y_BLD.shape[2]), place_NM.reshape(-1),
        torch.arange(0, place_NM.numel(), kept, device=bag.device, dtype=torch.int32), bag, 0,
    )  # fmt: skip
    return dots.view(-1, slots, kept).sum(1)


def shifted_sum(x_BLD: Tensor, weight_BM: Tensor, lag_BM: Tensor, length_B: Tensor | None, back: bool) -> Tensor:
    """Σ_i w_i · x[t - τ_i] around each row's length, or of x[t + τ_i] where not `back`, [B, L, D]."""
    if lag_BM.shape[1] == 0:
        return torch.zeros_like(x_BLD)
    if not torch.compiler.is_exporting():
        out_BLD: Tensor = ShiftedSum.apply(x_BLD, weight_BM, lag_BM, length_B, back)  # type: ignore[no-untyped-call]
        return out_BLD
    rows, slots, _ = x_BLD.shape
    at_L = torch.arange(slots, device=x_BLD.device)
    ring = slots if length_B is None else length_B.clamp(min=1)[:, None, None]
    lag_BLL = ((at_L[:, None] - at_L) * (1 if back else -1) % ring).expand(rows, -1, -1)  # place, place that it reads
    of_lag_BLL = torch.zeros_like(x_BLD[:, :, 0]).scatter_add(1, lag_BM, weight_BM)[:, None].expand(-1, slots, -1)
    return _real(of_lag_BLL.gather(2, lag_BLL) @ x_BLD, length_B)


def scores_at(q_BLD: Tensor, k_BLD: Tensor, score_BL: Tensor, lag_BM: Tensor, length_B: Tensor | None) -> Tensor:
    """The scores of the kept lags, [B, M], with a gradient to q and k."""
    if torch.compiler.is_exporting():
        return score_BL.gather(1, lag_BM)
    out_BM: Tensor = ScoresAt.apply(q_BLD, k_BLD, score_BL, lag_BM, length_B)  # type: ignore[no-untyped-call]
    return out_BM


class ShiftedSum(torch.autograd.Function):
    """out[t] = Σ_i w_i · x[t - τ_i] around each row's length, or x[t + τ_i] where not `back`."""

    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, weight_BM: Tensor, lag_BM: Tensor, length_B: Tensor | None, back: bool) -> Tensor:
        place_NM = places(lag_BM, x_BLD.shape[1], length_B, back)
        ctx.save_for_backward(x_BLD, weight_BM, lag_BM, place_NM)
        ctx.length_B, ctx.back = length_B, back
        return _real(_gathered_sum(x_BLD, place_NM, weight_BM), length_B)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BLD, weight_BM, lag_BM, place_NM = ctx.saved_tensors
        grad_BLD = _real(grads[0], ctx.length_B)
        opposite_NM = places(lag_BM, x_BLD.shape[1], ctx.length_B, not ctx.back)
        to_x = _gathered_sum(grad_BLD, opposite_NM, weight_BM) if ctx.needs_input_grad[0] else None
        to_weight = _gathered_dots(grad_BLD, x_BLD, place_NM) if ctx.needs_input_grad[1] else None
        return to_x if to_x is None else _real(to_x, ctx.length_B), to_weight, None, None, None


class ScoresAt(torch.autograd.Function):
    """The scores of the kept lags, [B, M]; their gradient is two shifted sums and needs no FFT."""

    @staticmethod
    def forward(ctx: Any, q_BLD: Tensor, k_BLD: Tensor, score_BL: Tensor, lag_BM: Tensor, length_B: Tensor | None) -> Tensor:
        ctx.save_for_backward(q_BLD, k_BLD, lag_BM)
        ctx.length_B = length_B
        return score_BL.gather(1, lag_BM)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BLD, k_BLD, lag_BM = ctx.saved_tensors
        grad_BM, slots, length_B = grads[0].contiguous(), q_BLD.shape[1], ctx.length_B
        to_q = _gathered_sum(k_BLD, places(lag_BM, slots, length_B, True), grad_BM)
        to_k = _gathered_sum(q_BLD, places(lag_BM, slots, length_B, False), grad_BM)
        return _real(to_q, length_B), _real(to_k, length_B), None, None, None


def _real(x_BLD: Tensor, length_B: Tensor | None) -> Tensor:
    """Zeros behind the length."""
    if length_B is None:
        return x_BLD
    return x_BLD * (torch.arange(x_BLD.shape[1], device=x_BLD.device) < length_B[:, None]).unsqueeze(-1)
