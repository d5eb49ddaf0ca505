"""Lags at which sequences repeat: scores of all lags, the choice of the best, and sums of shifted sequences.

A row of length n is a ring of n places; what stands behind its length must be 0. Shape suffixes: B rows, L slots, D channels,
F frequencies, M kept lags, N a size named where it stands.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PRODUCTS, SPECTRUM = 2**19, 2**18  # numbers that a chunk of rows makes, so that they stay in the cache
FEW = 64  # up to this many slots, one more product sums the products by lag
SHORT = 100  # up to this many slots, a product of matrices is faster than an FFT
TIE = 1e-4  # scores this near to each other, as a share of the highest, are equal


def lag_scores(q_BLD: Tensor, k_BLD: Tensor, length_B: Tensor | None = None) -> Tensor:
    """R(τ) = Σ_t q[t + τ] · k[t] around each row's length, summed over channels, [B, L]; a lag behind the length means nothing.

    The mean over channels that the paper takes commutes with the inverse FFT, so that one serves all channels.
    """
    rows, slots, channels = q_BLD.shape
    size = slots if length_B is None else 2 * slots  # lags are told apart up to here
    if torch.compiler.is_exporting():  # FFTs do not export
        line_BN = _line_by_products(q_BLD, k_BLD)
    elif slots <= FEW:
        is_lag_NL = _is_lag(slots, size, q_BLD)
        line_BN = torch.cat(
            [(k @ q.transpose(1, 2)).flatten(1) @ is_lag_NL for q, k in _chunks(q_BLD, k_BLD, PRODUCTS // slots**2)]
        )
    elif slots <= SHORT or rows * channels == 0:  # nor do FFTs take empty batches
        line_BN = torch.cat([_line_by_products(q, k) for q, k in _chunks(q_BLD, k_BLD, PRODUCTS // slots**2)])
    else:
        size = slots if length_B is None else _fast_size(size)
        line_BN = torch.cat([_line_by_fft(q, k, size) for q, k in _chunks(q_BLD, k_BLD, SPECTRUM // (size * channels))])
    if line_BN.shape[1] == slots:
        score_BL: Tensor = line_BN
    elif length_B is None:
        score_BL = line_BN[:, :slots] + line_BN[:, slots:]
    else:  # a ring of n places meets itself again n places on
        lag_L = torch.arange(slots, device=q_BLD.device)
        score_BL = line_BN[:, :slots] + line_BN.gather(1, (lag_L - length_B[:, None]) % line_BN.shape[1])
    return score_BL


def _fast_size(least: int) -> int:
    """A length of at least `least` that FFTs are fast at: a power of two, or 3, 5, 9 or 15 times one."""
    return min(odd << max(0, -(-least // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))


def _chunks(q_BLD: Tensor, k_BLD: Tensor, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Both by so many rows, at least one, on a CPU; whole on a device that has no use for it."""
    rows = max(1, rows if q_BLD.device.type == "cpu" else len(q_BLD))
    return list(zip(q_BLD.split(rows), k_BLD.split(rows), strict=True))  # type: ignore[no-untyped-call]


def _is_lag(slots: int, size: int, like: Tensor) -> Tensor:
    """1 where the product of k[t] and q[s], at t · L + s, is of lag s − t modulo `size`: it sums by lag, [L · L, size]."""
    at_L = torch.arange(slots, device=like.device)
    lag_NL = ((at_L - at_L[:, None]) % size).view(-1, 1)
    return like.new_zeros(slots * slots, size).scatter_(1, lag_NL, 1.0)


def _line_by_fft(q_BLD: Tensor, k_BLD: Tensor, size: int) -> Tensor:
    """Σ_t q[t + τ] · k[t] around a ring of `size` places, [B, size]."""
    spectrum_BFD = torch.fft.rfft(q_BLD, size, 1) * torch.fft.rfft(k_BLD, size, 1).conj()
    line_BN: Tensor = torch.fft.irfft(spectrum_BFD.sum(2), size, 1)
    return line_BN


def _line_by_products(q_BLD: Tensor, k_BLD: Tensor) -> Tensor:
    """Σ_t q[t + τ] · k[t] where nothing comes round again, at column τ modulo 2 L, [B, 2 L].

    The products of each key stand in a row of 2 L − 1. Read as rows of 2 L, each is shifted by one place more than the one
    before it, so that columns are lags.
    """
    slots = q_BLD.shape[1]
    padded_BN = F.pad(k_BLD @ q_BLD.transpose(1, 2), (0, slots - 1, 0, 1)).flatten(1)
    line_BN: Tensor = padded_BN[:, : 2 * slots * slots].reshape(-1, slots, 2 * slots).sum(1)
    return line_BN


def num_kept(length: Tensor, factor: float) -> Tensor:
    """int(factor · ln length), at least 1 and at most the length, in the shape of `length`."""
    return (factor * length.double().clamp(min=1).log()).long().clamp(min=1).minimum(length.clamp(min=1))


def most_kept(slots: int, factor: float) -> int:
    """The most lags that a row of at most `slots` places keeps; a plain number, so that no device is asked for it."""
    return min(max(1, int(factor * math.log(slots))), slots)


def choose_lags(score_BL: Tensor, allowed_BL: Tensor | None, keep_B: Tensor | None, most: int) -> Tensor:
    """The best allowed lags of each row, [B, M] with M = `most`, of which the first `keep` count; None: all.

    Lags whose scores lie within `TIE` of the last that gets in are tied with it, and the smaller lags win, so that the noise
    of one FFT or another cannot choose. Each row must allow as many lags as it keeps.
    """
    slots = score_BL.shape[1]
    masked_BL = score_BL if allowed_BL is None else score_BL.masked_fill(~allowed_BL, -torch.inf)
    best_BM = masked_BL.topk(most, 1).values
    cut_B1 = best_BM[:, -1:] if keep_B is None else best_BM.gather(1, (keep_B - 1).clamp(min=0)[:, None])
    near_B1 = TIE * best_BM[:, :1].abs()
    sure_BL, tied_BL = masked_BL > cut_B1 + near_B1, masked_BL >= cut_B1 - near_B1
    if allowed_BL is not None:
        tied_BL &= allowed_BL
    turn_BL = (torch.arange(slots, 0, -1, device=score_BL.device) * tied_BL).add_(sure_BL, alpha=slots)
    return turn_BL.topk(most, 1).indices


def lag_weights(logit_BM: Tensor, is_kept_BM: Tensor | None) -> Tensor:
    """Softmax over the columns that count, and 0 at the others, in the shape of the logits; None: all count."""
    if is_kept_BM is None:
        return logit_BM.softmax(-1)
    return logit_BM.masked_fill(~is_kept_BM, torch.finfo(logit_BM.dtype).min).softmax(-1) * is_kept_BM


class Reads(NamedTuple):
    """Where each place reads at each lag, as rows of all slots of the batch, [B · L, M]; behind the length: anywhere."""

    back_NM: Tensor
    ahead_NM: Tensor


def reads(lag_BM: Tensor, slots: int, length_B: Tensor | None) -> Reads:
    """The places t - τ and t + τ around each row's length."""
    rows, kept = lag_BM.shape
    lag_BN = lag_BM.int().repeat(1, slots)  # L · M side by side: rows of a few numbers are slow to work on
    at_N = torch.arange(slots, device=lag_BM.device, dtype=torch.int32).repeat_interleave(kept)
    start_B1 = torch.arange(rows, device=lag_BM.device, dtype=torch.int32)[:, None] * slots
    ring_B1 = lag_BN.new_full((rows, 1), slots) if length_B is None else length_B.int().clamp(min=1)[:, None]

    def around(read_BN: Tensor) -> Tensor:  # from -ring to ring - 1
        read_BN += (read_BN >> 31) & ring_B1  # the sign bit, everywhere: cheaper than a comparison
        if length_B is not None:
            read_BN.clamp_(min=0, max=slots - 1)
        return read_BN.add_(start_B1).view(rows * slots, kept)

    return Reads(around(at_N - lag_BN), around(at_N + lag_BN - ring_B1))


def _at_places(weight_BM: Tensor, slots: int, length_B: Tensor | None) -> Tensor:
    """The weights of a row at each of its places, and 0 behind the length, [B · L, M]."""
    return _real(weight_BM.detach()[:, None].expand(-1, slots, -1), length_B).reshape(-1, weight_BM.shape[1])


def _gathered_sum(x_BLD: Tensor, read_NM: Tensor, weight_NM: Tensor) -> Tensor:
    """Σ_m w_m · x[where t reads], [B, L, D]."""
    flat_ND = x_BLD.detach().reshape(-1, x_BLD.shape[2])
    out_ND = F.embedding_bag(read_NM, flat_ND, mode="sum", per_sample_weights=weight_NM)  # detached, it keeps no bags
    return out_ND.view(x_BLD.shape)


def _gathered_dots(x_BLD: Tensor, y_BLD: Tensor, read_NM: Tensor, length_B: Tensor | None) -> Tensor:
    """Σ_t x[t] · y[where t reads] over the places within the length, [B, M]."""
    slots, kept = x_BLD.shape[1], read_NM.shape[1]
    bag = torch.arange(len(read_NM), device=x_BLD.device, dtype=torch.int32).repeat_interleave(kept)
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x_BLD.reshape(-1, x_BLD.shape[2]), y_BLD.reshape(-1, y_BLD.shape[2]), read_NM.reshape(-1),
        torch.arange(0, read_NM.numel(), kept, device=bag.device, dtype=torch.int32), bag, 0,
    )  # fmt: skip
    return _real(dots.view(-1, slots, kept), length_B).sum(1)


def shifted_sum(
    x_BLD: Tensor, weight_BM: Tensor, lag_BM: Tensor, length_B: Tensor | None, back: bool, read: Reads | None
) -> Tensor:
    """Σ_i w_i · x[t - τ_i] around each row's length, or of x[t + τ_i] where not `back`, [B, L, D].

    Args:
        read: the places of the lags; None where the layer is exported, which makes one product of it all.
    """
    if lag_BM.shape[1] == 0:
        return torch.zeros_like(x_BLD)
    if read is not None:
        ways = read if back else read[::-1]
        out_BLD: Tensor = ShiftedSum.apply(x_BLD, weight_BM, *ways, length_B)  # type: ignore[no-untyped-call]
        return out_BLD
    rows, slots, _ = x_BLD.shape
    at_L = torch.arange(slots, device=x_BLD.device)
    ring = slots if length_B is None else length_B.clamp(min=1)[:, None, None]
    lag_BLL = ((at_L[:, None] - at_L) * (1 if back else -1) % ring).expand(rows, -1, -1)  # place, place that it reads
    of_lag_BLL = torch.zeros_like(x_BLD[:, :, 0]).scatter_add(1, lag_BM, weight_BM)[:, None].expand(-1, slots, -1)
    return _real(of_lag_BLL.gather(2, lag_BLL) @ x_BLD, length_B)


def scores_at(
    q_BLD: Tensor, k_BLD: Tensor, score_BL: Tensor, lag_BM: Tensor, length_B: Tensor | None, energy_2B: Tensor | None,
    read: Reads | None,
) -> Tensor:  # fmt: skip
    """The scores of the kept lags, [B, M], with a gradient to q and k.

    Args:
        energy_2B: squared norms of q and k, where scores are cosines.
        read: the places of the lags; None where the layer is exported, without a gradient.
    """
    score_BM = score_BL.gather(1, lag_BM)
    if read is None:
        return score_BM
    out_BM: Tensor = ScoresAt.apply(q_BLD, k_BLD, score_BM, *read, length_B, energy_2B)  # type: ignore[no-untyped-call]
    return out_BM


def by_norms(q_energy: Tensor, k_energy: Tensor) -> Tensor:
    """1 / (|q| |k|), and 0 where there is no energy, in the shape of the energies."""
    energy = q_energy * k_energy
    return energy.masked_fill(energy < 1e-30, torch.inf).rsqrt()


class ShiftedSum(torch.autograd.Function):
    """out[t] = Σ_i w_i · x[where t reads]; who reads t is told too, for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x_BLD: Tensor, weight_BM: Tensor, read_NM: Tensor, reader_NM: Tensor, length_B: Tensor | None
    ) -> Tensor:
        weight_NM = _at_places(weight_BM, x_BLD.shape[1], length_B)
        ctx.save_for_backward(x_BLD, weight_NM, read_NM, reader_NM)
        ctx.length_B = length_B
        return _gathered_sum(x_BLD, read_NM, weight_NM)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BLD, weight_NM, read_NM, reader_NM = ctx.saved_tensors
        to_x = _gathered_sum(grads[0], reader_NM, weight_NM) if ctx.needs_input_grad[0] else None
        to_weight = _gathered_dots(grads[0], x_BLD, read_NM, ctx.length_B) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None, None, None


class ScoresAt(torch.autograd.Function):
    """The scores of the kept lags, [B, M]; their gradient is two shifted sums and needs no FFT.

    A cosine has been divided by |q| |k|: its gradient is less by a share of q and k themselves.
    """

    @staticmethod
    def forward(
        ctx: Any, q_BLD: Tensor, k_BLD: Tensor, score_BM: Tensor, back_NM: Tensor, ahead_NM: Tensor,
        length_B: Tensor | None, energy_2B: Tensor | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(q_BLD, k_BLD, score_BM, back_NM, ahead_NM)
        ctx.length_B, ctx.energy_2B = length_B, energy_2B
        return score_BM.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BLD, k_BLD, score_BM, back_NM, ahead_NM = ctx.saved_tensors
        energy_2B = ctx.energy_2B
        grad_BM = grads[0] if energy_2B is None else grads[0] * by_norms(*energy_2B)[:, None]
        grad_NM = _at_places(grad_BM, q_BLD.shape[1], ctx.length_B)
        to_q = _gathered_sum(k_BLD, back_NM, grad_NM)
        to_k = _gathered_sum(q_BLD, ahead_NM, grad_NM)
        if energy_2B is not None:
            share_2B = (grads[0] * score_BM).sum(1) / energy_2B.clamp(min=torch.finfo(energy_2B.dtype).tiny)
            to_q.addcmul_(q_BLD, share_2B[0, :, None, None], value=-1)
            to_k.addcmul_(k_BLD, share_2B[1, :, None, None], value=-1)
        return to_q, to_k, None, None, None, None, None


def _real(x_BLD: Tensor, length_B: Tensor | None) -> Tensor:
    """Zeros behind the length."""
    if length_B is None:
        return x_BLD
    return x_BLD * (torch.arange(x_BLD.shape[1], device=x_BLD.device) < length_B[:, None]).unsqueeze(-1)
