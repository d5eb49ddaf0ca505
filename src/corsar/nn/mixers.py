"""What may stand in the place of attention: Auto-Correlation, a learned filter, or nothing but each place itself.

`sequence_mixer` gives a layer over padded rows for a causal model. The `Packed…` classes have the methods of
MultiHeadAttention, for rows of real positions and for the merged rows of two kinds of events. There, queries stand at the
slots of one kind, keys and values at those of the other, and 0 elsewhere; what is read is divided by the weights of the lags
that land on the other kind.

Shape suffixes: T packed query positions, S packed key positions, B rows, L slots, D channels, X keys and values side by side.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from corsar.nn.attention import Empty, MultiHeadAttention
from corsar.nn.autocorrelation import AutoCorrelation, Which, auto_correlation
from corsar.nn.fourier import FourierFilter
from corsar.nn.packing import Packing

MixerName = Literal["attention", "autocorrelation", "fourier", "lag_zero"]


class PackedAutoCorrelation(AutoCorrelation):
    """Auto-Correlation over packed positions."""

    def queries(self, x_TD: Tensor) -> Tensor:
        """[T, D]."""
        return self.query_map(x_TD)  # type: ignore[no-any-return]

    def memory(self, x_SD: Tensor) -> Tensor:
        """Keys and values side by side, [S, X]."""
        return torch.cat([self.key_map(x_SD), self.value_map(x_SD)], 1)

    @property
    def out_proj(self) -> nn.Linear:
        """The map of what was read."""
        return self.out_map

    def attend(self, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, merged: bool = False) -> Tensor:
        """What each query position reads, before the output map, [T, D]."""
        k_SD, v_SD = kv_SX.chunk(2, 1)
        if merged:
            v_SD = torch.cat([v_SD, torch.ones_like(v_SD[:, :1])], 1)  # the weights that land on a real place
        q, k, v = (_rows(x, p, merged) for x, p in ((q_TD, at), (k_SD, memory), (v_SD, memory)))
        length_B = at.merged_B if merged else at.length_B
        sharpness = None if self.log_sharpness is None else self.log_sharpness.exp()
        if self.options.lags == "paper_code":
            length_B = None  # padding is taken for data
        read_BLD, _ = auto_correlation(q, k, v, length_B, self.options, sharpness, self.training)
        if merged:
            read_BLD = read_BLD[..., :-1] / read_BLD[..., -1:].clamp(min=1e-6)
        return _places(read_BLD, at, merged)


class PackedFourier(nn.Module):
    """FMLP-Rec's filter over packed positions: each place reads what came before it, weighed by lag and channel alone."""

    def __init__(self, dim: int, max_len: int) -> None:
        super().__init__()
        self.filter, self.out_proj = FourierFilter(dim, max_len), nn.Linear(dim, dim)

    def queries(self, x_TD: Tensor) -> Tensor:
        """Nothing is asked for, [T, 0]."""
        return x_TD[:, :0]

    def memory(self, x_SD: Tensor) -> Tensor:
        """What is filtered, [S, D]."""
        return x_SD

    def attend(self, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, merged: bool = False) -> Tensor:
        """What each query position reads, before the output map, [T, D]."""
        return _places(self.filter(_rows(kv_SX, memory, merged)), at, merged)


class PackedLagZero(nn.Module):
    """Each place reads its own value, and nothing of the other kind: what Auto-Correlation is where lag 0 wins."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value_map, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def queries(self, x_TD: Tensor) -> Tensor:
        """For its shape alone, [T, D]."""
        return x_TD

    def memory(self, x_SD: Tensor) -> Tensor:
        """The values, [S, D]."""
        return self.value_map(x_SD)  # type: ignore[no-any-return]

    def attend(self, q_TD: Tensor, kv_SX: Tensor, at: Packing, memory: Packing, merged: bool = False) -> Tensor:
        """What each query position reads, before the output map, [T, D]."""
        return kv_SX if at is memory else torch.zeros_like(q_TD)


class LagZero(nn.Module):
    """The same over padded rows."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value_map, self.out_map = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x_BLD: Tensor, *, lengths: Tensor) -> Tensor:
        """[B, L, D]; the lengths change nothing."""
        return self.out_map(self.value_map(x_BLD))  # type: ignore[no-any-return]


def packed_mixer(
    name: MixerName, dim: int, heads: int, dropout: float, empty: Empty, max_len: int, lags: Which, factor: float
) -> MultiHeadAttention | PackedAutoCorrelation | PackedFourier | PackedLagZero:
    """The mixer called `name` over packed positions; merged rows have at most `max_len` places."""
    if name == "attention":
        return MultiHeadAttention(dim, heads, dropout, empty)
    if name == "fourier":
        return PackedFourier(dim, max_len)
    if name == "lag_zero":
        return PackedLagZero(dim)
    if lags == "paper_code":
        return PackedAutoCorrelation(dim, heads, lags=lags, direction="paper", normalise=False, factor=factor)
    return PackedAutoCorrelation(dim, heads, factor=factor)


def sequence_mixer(name: MixerName, dim: int, heads: int, max_len: int, lags: Which, factor: float) -> nn.Module:
    """The mixer called `name` over padded rows, causal but for `paper_code`, which cannot be; not attention."""
    if name == "fourier":
        return FourierFilter(dim, max_len)
    if name == "lag_zero":
        return LagZero(dim)
    if lags == "paper_code":
        return AutoCorrelation(dim, heads, lags=lags, direction="paper", normalise=False, factor=factor)
    return AutoCorrelation(dim, heads, causal=True, factor=factor)


def _slots(at: Packing) -> tuple[Tensor, int]:
    """Where packed positions stand among the merged rows put one behind another, [T], and how wide those are."""
    assert at.slots_BL is not None
    assert at.merged_B is not None
    width = max(1, int(at.merged_B.max())) if len(at.merged_B) else 1
    return at.at_T // at.shape[1] * width + at.pack(at.slots_BL[..., None])[:, 0], width


def _rows(packed_TD: Tensor, at: Packing, merged: bool) -> Tensor:
    """Padded rows of packed positions, [B, L, D]."""
    if not merged:
        return at.unpack(packed_TD)
    place_T, width = _slots(at)
    rows = at.shape[0]
    return packed_TD.new_zeros(rows * width, packed_TD.shape[1]).index_copy(0, place_T, packed_TD).view(rows, width, -1)


def _places(rows_BLD: Tensor, at: Packing, merged: bool) -> Tensor:
    """The packed positions of padded rows, [T, D]."""
    return rows_BLD.flatten(0, 1).index_select(0, _slots(at)[0]) if merged else at.pack(rows_BLD)
