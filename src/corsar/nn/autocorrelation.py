"""Auto-Correlation: a drop-in for attention that reads the past at the lags where a sequence repeats itself.

Paper
    Wu et al., "Autoformer: Decomposition Transformers with Auto-Correlation", NeurIPS 2021, section 3.2.

For each lag τ the score is R(τ) = Σ_t q[t + τ] · k[t] around the row's own length n, for all lags at once by FFT. The best
m = max(1, int(factor · ln n)) lags are kept, their scores go through a softmax, and out[t] = Σ_i w_i · v[t − τ_i], around n.
A row never reads another one, nor its padding.

Cost
    L log L a row and channel; the gradient is a few shifted sums, without an FFT. `causal=True`: squares of L, and
    `causal_step.step` gives one more event for the price of L.

Shape suffixes: B rows, L query slots, S key slots, D channels (heads side by side), E channels of the values, M kept lags.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.errors import ConfigError
from corsar.nn.lags import by_norms, choose_lags, lag_scores, lag_weights, most_kept, num_kept, reads, scores_at, shifted_sum
from corsar.nn.padding import Padding

Which = Literal["exact", "paper_code"]
Direction = Literal["back", "paper"]


@dataclass(frozen=True)
class Lags:
    """What a layer looked at. With `causal`, each has one more axis: the place that looks."""

    lag_BM: Tensor
    weight_BM: Tensor  # softmax over the kept lags; 0 where a row keeps fewer
    score_BL: Tensor  # of all lags; behind a row's length they mean nothing


@dataclass(frozen=True)
class Options:
    """How lags are scored, chosen and read; the page docs/models/autocorrelation.md tells what each does."""

    lags: Which = "exact"
    causal: bool = False
    direction: Direction = "back"
    lag_zero: bool = True  # False: lag 0, at which each place reads itself, is left out where there is another
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.causal and (self.lags == "paper_code" or self.direction == "paper"):
            raise ConfigError('causal = true reads earlier places alone; it needs lags = "exact" and direction = "back"')
        if self.lags == "paper_code" and not self.lag_zero:
            raise ConfigError('lags = "paper_code" always has lag 0; set lags = "exact" to leave it out')
        if self.factor <= 0:
            raise ConfigError(f"factor = {self.factor}; the number of lags needs one above 0")


def auto_correlation(
    q_BLD: Tensor,
    k_BLD: Tensor,
    v_BLE: Tensor,
    length_B: Tensor | None = None,
    options: Options = Options(),
    sharpness: Tensor | None = None,
    training: bool = False,
) -> tuple[Tensor, Lags]:
    """The reading of each place, [B, L, E], and what it looked at; all three inputs have L slots.

    Args:
        length_B: places of each row; what stands behind them in q, k and v must be 0. None: all L.
        sharpness: where given, scores are cosines of the whole sequences, times this; otherwise means over channels, which
            grow with the length and put all weight on lag 0.
        training: with `paper_code`, lags are those of the mean over the batch.
    """
    if options.causal:
        return _causal(q_BLD, k_BLD, v_BLE, options, sharpness)
    energy_2B = None
    with torch.no_grad():
        score_BL = lag_scores(q_BLD, k_BLD, length_B)
        if sharpness is not None:
            energy_2B = torch.stack([torch.linalg.vector_norm(x, dim=(1, 2)).square() for x in (q_BLD, k_BLD)])
            score_BL = score_BL * by_norms(*energy_2B)[:, None]
        if options.lags == "paper_code":
            lag_BM, is_kept_BM = _paper_lags(score_BL, options.factor, training), None
        else:
            lag_BM, is_kept_BM = exact_lags(score_BL, length_B, options)
        read = None if torch.compiler.is_exporting() else reads(lag_BM, q_BLD.shape[1], length_B)
    scale = 1 / q_BLD.shape[2] if sharpness is None else sharpness
    logit_BM = scores_at(q_BLD, k_BLD, score_BL, lag_BM, length_B, energy_2B, read) * scale
    weight_BM = lag_weights(logit_BM, is_kept_BM)
    out_BLE = shifted_sum(v_BLE, weight_BM, lag_BM, length_B, options.direction == "back", read)
    return out_BLE, Lags(lag_BM, weight_BM, score_BL * scale)


def cosine_scale(q_energy: Tensor, k_energy: Tensor, sharpness: Tensor) -> Tensor:
    """What makes scores cosines times the sharpness, in the shape of the energies; 0 where there is no energy."""
    return sharpness * by_norms(q_energy, k_energy)


def exact_lags(score_BL: Tensor, length_B: Tensor | None, options: Options) -> tuple[Tensor, Tensor | None]:
    """The lags that each row keeps, [B, M], and which of them count; None: all rows have L places, and all lags count."""
    slots = score_BL.shape[1]
    most = most_kept(slots, options.factor)
    if length_B is None:
        if options.lag_zero or slots == 1:
            return choose_lags(score_BL, None, None, most), None
        return choose_lags(score_BL[:, 1:], None, None, min(most, slots - 1)) + 1, None
    lag_L = torch.arange(slots, device=score_BL.device)
    allowed_BL = lag_L < length_B.clamp(min=1)[:, None]
    keep_B = num_kept(length_B, options.factor)
    if not options.lag_zero:
        allowed_BL &= (lag_L > 0) | (length_B <= 1)[:, None]
        keep_B = keep_B.minimum((length_B - 1).clamp(min=1))
    is_kept_BM = torch.arange(most, device=score_BL.device) < keep_B[:, None]
    return choose_lags(score_BL, allowed_BL, keep_B, most), is_kept_BM


def _paper_lags(score_BL: Tensor, factor: float, training: bool) -> Tensor:
    """As published: int(factor · ln L) lags, which may be none; in training the same for all rows."""
    kept = int(factor * math.log(score_BL.shape[1]))
    if training:
        return score_BL.mean(0).topk(kept).indices.expand(len(score_BL), -1)
    return score_BL.topk(kept, 1).indices


def _causal(q_BLD: Tensor, k_BLD: Tensor, v_BLE: Tensor, options: Options, sharpness: Tensor | None) -> tuple[Tensor, Lags]:
    """Each place t scores, chooses and reads with what stands at or before it."""
    rows, slots, channels = q_BLD.shape
    at_L = torch.arange(slots, device=q_BLD.device)
    from_LL = at_L[:, None] - at_L  # place, lag -> place of the key
    is_past_LL = from_LL >= 0
    product_BLL = (q_BLD @ k_BLD.transpose(1, 2)).gather(2, from_LL.clamp(min=0).expand(rows, -1, -1))
    score_BLL = (product_BLL * is_past_LL).cumsum(1)
    if sharpness is None:
        score_BLL = score_BLL / channels
    else:
        q_energy_BL, k_energy_BL = (x.square().sum(2).cumsum(1) for x in (q_BLD, k_BLD))
        score_BLL = score_BLL * cosine_scale(q_energy_BL, k_energy_BL, sharpness)[..., None]
    score_NL = score_BLL.reshape(-1, slots)
    lag_NM, is_kept_NM = exact_lags(score_NL.detach(), (at_L + 1).repeat(rows), options)
    weight_NM = lag_weights(score_NL.gather(1, lag_NM), is_kept_NM)
    lag_BLM, weight_BLM = (x.view(rows, slots, lag_NM.shape[1]) for x in (lag_NM, weight_NM))
    read_BLM = (at_L[:, None] - lag_BLM).clamp(min=0)
    reads_BLL = torch.zeros_like(score_BLL).scatter_add(2, read_BLM, weight_BLM)
    return reads_BLL @ v_BLE, Lags(lag_BLM, weight_BLM, score_BLL)


class AutoCorrelation(nn.Module):
    """The layer with its projections, as multi-head attention has them.

    Args:
        dim: channels of the inputs and of the output.
        heads: shapes the projections alone: scores are means over all heads.
        key_dim: channels of a head; dim / heads where not told.
        normalise: score by cosines with a learned sharpness; without it scores grow with the length.
    """

    def __init__(
        self, dim: int, heads: int = 1, *, lags: Which = "exact", causal: bool = False, direction: Direction = "back",
        normalise: bool = True, lag_zero: bool = True, factor: float = 1.0, key_dim: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if key_dim is None and dim % heads:
            raise ConfigError(f"dim {dim} is not a multiple of heads {heads}; name key_dim, or choose other heads")
        self.options = Options(lags, causal, direction, lag_zero, factor)
        inner = heads * (key_dim or dim // heads)
        self.query_map, self.key_map, self.value_map = (nn.Linear(dim, inner) for _ in range(3))
        self.out_map = nn.Linear(inner, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(10.0))) if normalise else None

    def forward(
        self, query_BLX: Tensor, key_BSX: Tensor | None = None, value_BSX: Tensor | None = None, *,
        lengths: Tensor | None = None, is_real: Tensor | None = None, return_lags: bool = False,
    ) -> Tensor | tuple[Tensor, Lags]:  # fmt: skip
        """The reading of each place, [B, L, dim], 0 at padding; with `return_lags` also what it looked at.

        Args:
            query_BLX: [B, L, dim].
            key_BSX: [B, S, dim]; the query where not told. Where S is not L, keys and values are cut to L, or padded by zeros.
            value_BSX: [B, S, dim]; the keys where not told.
            lengths: [B] real places of each row, which stand first.
            is_real: [B, L] bool; real places wherever they stand: the layer works on them as if nothing stood between.

        Raises:
            ConfigError: both `lengths` and `is_real`, or either with `paper_code`, which knows no padding.
        """
        key_BSX = query_BLX if key_BSX is None else key_BSX
        value_BSX = key_BSX if value_BSX is None else value_BSX
        if (lengths is not None or is_real is not None) and self.options.lags == "paper_code":
            raise ConfigError('lags = "paper_code" takes padding for data; set lags = "exact" for rows of unlike lengths')
        slots = query_BLX.shape[1]
        padding = Padding(slots, lengths, is_real)
        parts = [self.query_map(query_BLX), self.key_map(key_BSX), self.value_map(value_BSX)]
        parts = [F.pad(x[:, :slots], (0, 0, 0, slots - min(slots, x.shape[1]))) for x in parts]
        parts = [padding.to_front(x) for x in parts]
        sharpness = None if self.log_sharpness is None else self.log_sharpness.exp()
        with torch.autocast(query_BLX.device.type, enabled=False):
            q, k, v = (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in parts)  # for the FFT
            read_BLD, told = auto_correlation(q, k, v, padding.length_B, self.options, sharpness, self.training)
        read_BLX = padding.put_back(self.out_map(read_BLD.to(parts[0].dtype)))
        return (read_BLX, told) if return_lags else read_BLX
