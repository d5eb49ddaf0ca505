"""One more event for causal Auto-Correlation: what the whole sequence would give at its end, for the price of its length.

The score of each lag grows by the new query times the key that lies so far back: R_t(τ) = R_{t-1}(τ) + ⟨q_t, k_{t-τ}⟩.

Shape suffixes: B rows, L slots, P past events at most, D channels, E channels of the values, X channels of the layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.errors import ConfigError
from corsar.nn.autocorrelation import AutoCorrelation, cosine_scale, exact_lags
from corsar.nn.lags import lag_scores, lag_weights


@dataclass(frozen=True)
class CausalState:
    """What a layer keeps of the past of each row. The newest event stands first, so that a lag is a place."""

    key_BPD: Tensor
    value_BPE: Tensor
    sum_BP: Tensor  # of the products at each lag
    query_energy_B: Tensor
    key_energy_B: Tensor
    length_B: Tensor


def begin(layer: AutoCorrelation, x_BLX: Tensor, lengths: Tensor | None = None) -> CausalState:
    """The state after the events of x, [B, L, X], of which `lengths` of each row count; L may be 0.

    Raises:
        ConfigError: the layer is not causal.
    """
    if not layer.options.causal:
        raise ConfigError("the layer reads later events too; make it with causal=True to add events one by one")
    rows, slots, _ = x_BLX.shape
    lag_L = torch.arange(slots, device=x_BLX.device)
    length_B = torch.full((rows,), slots, device=x_BLX.device) if lengths is None else lengths
    is_real_BL1 = (lag_L < length_B[:, None]).unsqueeze(-1)
    q_BLD, k_BLD, v_BLE = (_wide(project(x_BLX)) * is_real_BL1 for project in (layer.query_map, layer.key_map, layer.value_map))
    apart = (0, 0, 0, slots + 1)  # so far from its start, the end of a row does not meet it
    at_BL1 = (length_B[:, None] - 1 - lag_L).unsqueeze(-1)
    key_BPD, value_BPE = (
        x.gather(1, at_BL1.clamp(min=0).expand_as(x)) * (at_BL1 >= 0) for x in (k_BLD, v_BLE)
    )  # fmt: skip
    query_energy_B, key_energy_B = (x.square().sum((1, 2)) for x in (q_BLD, k_BLD))
    sum_BP = lag_scores(F.pad(q_BLD, apart), F.pad(k_BLD, apart))[:, :slots]
    return CausalState(key_BPD, value_BPE, sum_BP, query_energy_B, key_energy_B, length_B)


def step(layer: AutoCorrelation, x_BX: Tensor, state: CausalState) -> tuple[Tensor, CausalState]:
    """The reading of one more event a row, [B, X], and the state after it: O(L) a row and channel."""
    q_BD, k_BD, v_BE = (_wide(project(x_BX)) for project in (layer.query_map, layer.key_map, layer.value_map))
    key_BPD = torch.cat([k_BD[:, None], state.key_BPD], 1)
    value_BPE = torch.cat([v_BE[:, None], state.value_BPE], 1)
    sum_BP = F.pad(state.sum_BP, (0, 1)) + (key_BPD @ q_BD[..., None])[..., 0]
    query_energy_B = state.query_energy_B + q_BD.square().sum(1)
    key_energy_B = state.key_energy_B + k_BD.square().sum(1)
    length_B = state.length_B + 1
    if layer.log_sharpness is None:
        score_BP = sum_BP / q_BD.shape[1]
    else:
        score_BP = sum_BP * cosine_scale(query_energy_B, key_energy_B, layer.log_sharpness.exp())[:, None]
    lag_BM, is_kept_BM = exact_lags(score_BP.detach(), length_B, layer.options)
    weight_BM = lag_weights(score_BP.gather(1, lag_BM), is_kept_BM)
    read_BME = value_BPE.gather(1, lag_BM[..., None].expand(-1, -1, value_BPE.shape[2]))
    read_BX: Tensor = layer.out_map((weight_BM[:, None] @ read_BME)[:, 0].to(x_BX.dtype))
    return read_BX, CausalState(key_BPD, value_BPE, sum_BP, query_energy_B, key_energy_B, length_B)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
