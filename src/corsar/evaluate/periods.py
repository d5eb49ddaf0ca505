"""The period of a curve from its lag spectrum: classical auto-correlation of a binned curve with gaps. Numpy alone.

Source: the discrete correlation of unevenly sampled data, Edelson and Krolik, ApJ 333, 1988 (pairs are counted a lag, and each
lag is divided by what its own pairs can reach); the link to the power spectrum is the theorem of Wiener and Khinchin.

Shape suffixes: L bins, C bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST_PAIRS = 5  # at a lag that is looked at
DOUBT = 20.0  # pairs: a correlation of n pairs counts n / (n + DOUBT) of itself, since the best of many small samples is chance
FINER = 8  # points a bin between which peaks are looked for
NEAR = 0.5  # of the highest peak: the first peak as high as this is the period, later ones are its multiples
WITHIN = 0.2  # of the peak's frequency: where the refinement may go
CUT = 4.0  # spreads


@dataclass(frozen=True)
class LagSpectrum:
    """Correlation of a curve with itself, lag by lag, and the period found in it; lags are in bins."""

    correlation: Floats  # [L], NaN where no pair of bins stands so far apart
    pairs: Floats  # [L], of measured bins, all bands together
    period: float  # NaN where there is no peak
    strength: float  # the correlation at the peak, after doubt; NaN as above


def lag_spectrum(values_LC: Floats, seen_LC: NDArray[np.bool_], near: float = NEAR) -> LagSpectrum:
    """The masked, normalised auto-correlation of a binned curve, and its period, both in bins.

    Each band has its mean taken away and is divided by its spread. R(τ) = Σ x(t) x(t+τ) / √(Σ x(t)² · Σ x(t+τ)²), sums over
    bands and over those pairs whose bins both hold a measurement, so that gaps are neither data nor zeros. The period is the
    smallest near-maximal peak: lag 0 and the slope that comes down from it are left out, up to the first lag below zero; then
    the first peak counts that is at least `near` of the highest. Between lags, the spectrum is interpolated as a band-limited
    function, so that a period of 2.4 bins is found. The place of the peak is then refined where the cosine transform of the
    spectrum, weighed by pairs, is highest within a fifth of it, by a parabola through three points: all multiples of the
    period vote there.

    Args:
        near: Smaller finds the period where its multiples correlate better; larger is safer against peaks of noise.
    """
    correlation, pairs = _correlate(values_LC, seen_LC)
    sure = np.where(pairs >= FEWEST_PAIRS, np.nan_to_num(correlation) * pairs / (pairs + DOUBT), 0)
    fine, is_seen = _finer(sure), np.repeat(pairs >= FEWEST_PAIRS, FINER)[: (len(sure) - 1) * FINER + 1]
    below = np.flatnonzero(fine < 0)
    if len(below) == 0:
        return LagSpectrum(correlation, pairs, np.nan, np.nan)
    peaks = np.flatnonzero((fine[1:-1] >= fine[:-2]) & (fine[1:-1] > fine[2:]) & is_seen[1:-1]) + 1
    peaks = peaks[(peaks > below[0]) & (fine[peaks] > 0)]
    if len(peaks) == 0:
        return LagSpectrum(correlation, pairs, np.nan, np.nan)
    first = peaks[fine[peaks] >= near * fine[peaks].max()][0]
    coarse = (first + _vertex(fine[first - 1 : first + 2])) / FINER
    return LagSpectrum(correlation, pairs, _refined(coarse, np.nan_to_num(correlation) * pairs), float(fine[first]))


def _correlate(values_LC: Floats, seen_LC: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """R by lag, NaN without pairs, and the pairs; all lags at once by FFTs, padded so that nothing wraps around."""
    length = len(values_LC)
    seen = seen_LC.astype(np.float64)
    count_C = seen.sum(0).clip(1)
    x_LC = (values_LC - (values_LC * seen).sum(0) / count_C) * seen
    spread_C = np.sqrt((x_LC**2).sum(0) / count_C)
    x_LC = (x_LC / np.where(spread_C > 0, spread_C, 1)).clip(-CUT, CUT)
    size = 2 * length
    fx, fseen, fsquare = (np.fft.rfft(one, size, axis=0) for one in (x_LC, seen, x_LC**2))

    def sums(first: NDArray[np.complex128], second: NDArray[np.complex128]) -> Floats:
        """Σ over bands and t of first(t) · second(t+τ), [L]."""
        summed: Floats = np.fft.irfft((first.conj() * second).sum(1), size)[:length]
        return summed

    pairs = sums(fseen, fseen).round()
    reach = sums(fsquare, fseen).clip(0) * sums(fseen, fsquare).clip(0)
    is_known = (pairs > 0) & (reach > 1e-9)
    correlation = np.where(is_known, sums(fx, fx) / np.sqrt(np.where(is_known, reach, 1)), np.nan)
    return correlation.clip(-1, 1), pairs


def _finer(spectrum: Floats) -> Floats:
    """The spectrum at FINER points a lag, [(L - 1) · FINER + 1]: band-limited, and even in the lag."""
    both = np.concatenate([spectrum, spectrum[:0:-1]])
    fine: Floats = np.fft.irfft(np.fft.rfft(both), len(both) * FINER)[: (len(spectrum) - 1) * FINER + 1] * FINER
    return fine


def _refined(coarse: float, weighed: Floats) -> float:
    """The period near `coarse` at which the cosine transform of the weighed spectrum is highest; not under two bins."""
    size = 16 * len(weighed)
    weighed = np.concatenate([[0.0], weighed[1:]])  # lag 0 says nothing of periods
    power = np.fft.rfft(weighed, size).real
    low, high = size / coarse / (1 + WITHIN), min(size / coarse / (1 - WITHIN), size / 2)
    places = np.arange(int(np.ceil(low)), int(high) + 1)
    if len(places) == 0:
        return max(coarse, 2.0)
    best = int(places[power[places].argmax()])
    return float(size / (best + (_vertex(power[best - 1 : best + 2]) if best < size // 2 else 0.0)))


def _vertex(three: Floats) -> float:
    """Where the parabola through three neighbours is highest, from the middle one, in [-½, ½]."""
    left, middle, right = three
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0
