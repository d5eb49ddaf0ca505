"""Lags at which sequences repeat: scores of all lags, the choice of the best, and sums of shifted sequences.

A row of length n is a ring of n places; what stands behind its length must be 0. Shape suffixes: B rows, L slots, D channels,
M kept lags.
"""

from __future__ import annotations

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
    if slots <= SHORT:
        ring = slots if length_B is None else length_B.clamp(min=1)[:, None, None]
        from_BLL = (lag_L[:, None] + lag_L) % ring  # lag, place -> place of the query
        products_BLL = q_BLD @ k_BLD.transpose(1, 2)
        score_BL: Tensor = products_BLL.gather(1, from_BLL.expand(len(q_BLD), -1, -1)).sum(2)
        return score_BL
    size = slots if length_B is None else 1 << (2 * slots - 1).bit_length()
    spectrum_BF = (torch.fft.rfft(q_BLD, size, 1) * torch.fft.rfft(k_BLD, size, 1).conj()).sum(2)
    scores_BN: Tensor = torch.fft.irfft(spectrum_BF, size, 1)
    if length_B is None:
        return scores_BN
    around_BL = (lag_L - length_B[:, None]) % size  # a ring of n places meets itself again n places on
    return scores_BN[:, :slots] + scores_BN.gather(1, around_BL)


def num_kept(length: Tensor, factor: float, least: int = 1) -> Tensor:
    """int(factor · ln length), at least `least` and at most the length, in the shape of `length`."""
    return (factor * length.double().clamp(min=1).log()).long().clamp(min=least).minimum(length.clamp(min=1))


def choose_lags(score_BL: Tensor, allowed_BL: Tensor, keep_B: Tensor) -> tuple[Tensor, Tensor]:
    """The `keep` best allowed lags of each row, and which of the M columns count, both [B, M].

    Lags whose scores lie within `TIE` of the last that gets in are tied with it, and the smaller lags win, so that the noise
    of one FFT or another cannot choose. Each row must allow as many lags as it keeps.
    """
    slots, most = score_BL.shape[1], int(keep_B.max()) if len(keep_B) else 0
    masked_BL = score_BL.masked_fill(~allowed_BL, -torch.inf)
    best_BM = masked_BL.topk(most, 1).values
    cut_B1 = best_BM.gather(1, (keep_B - 1).clamp(min=0)[:, None])
    near_B1 = TIE * best_BM[:, :1].abs()
    sure_BL, tied_BL = masked_BL > cut_B1 + near_B1, masked_BL >= cut_B1 - near_B1
    order_L = torch.arange(slots, 0, -1, device=score_BL.device)
    turn_BL = order_L * (tied_BL & allowed_BL) + slots * sure_BL
    return turn_BL.topk(most, 1).indices, torch.arange(most, device=score_BL.device) < keep_B[:, None]


def places(lag_BM: Tensor, slots: int, length_B: Tensor | None, back: bool) -> Tensor:
    """Where each place reads at each lag, as rows of all slots of the batch, [B · L, M]; behind the length: anywhere."""
    at_L1 = torch.arange(slots, device=lag_BM.device)[:, None]
    ring = slots if length_B is None else length_B.clamp(min=1)[:, None, None]
    read_BLM = (at_L1 - lag_BM[:, None] if back else at_L1 + lag_BM[:, None]) % ring
    start_B = torch.arange(len(lag_BM), device=lag_BM.device) * slots
    return (read_BLM + start_B[:, None, None]).flatten(0, 1)


def _gathered_sum(x_BLD: Tensor, place_NM: Tensor, weight_BM: Tensor) -> Tensor:
    weight_NM = weight_BM[:, None].expand(-1, x_BLD.shape[1], -1).reshape(place_NM.shape)
    flat_ND = x_BLD.reshape(-1, x_BLD.shape[2])
    return F.embedding_bag(place_NM, flat_ND, mode="sum", per_sample_weights=weight_NM).view(x_BLD.shape)


def _gathered_dots(x_BLD: Tensor, y_BLD: Tensor, place_NM: Tensor) -> Tensor:
    """Σ_t x[t] · y[where t reads], [B, M]."""
    slots, kept = x_BLD.shape[1], place_NM.shape[1]
    bag = torch.arange(len(place_NM), device=x_BLD.device).repeat_interleave(kept)
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x_BLD.reshape(-1, x_BLD.shape[2]), y_BLD.reshape(-1, y_BLD.shape[2]), place_NM.reshape(-1),
        torch.arange(0, place_NM.numel(), kept, device=bag.device), bag, 0,
    )  # fmt: skip
    return dots.view(-1, slots, kept).sum(1)


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
