"""Where places are and how the clocks of check-ins stand, as they go into a dataset directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.places import UNKNOWN_MIN

if TYPE_CHECKING:
    from corsar.data.entries import Entries
    from corsar.vocab import Rows, Vocab


def item_places(parts: Sequence[pl.DataFrame] | None, items: Vocab) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Latitude and longitude of all item rows, [items + 1, 2], NaN where the tables have none.

    Raises:
        DataError: a latitude or longitude cannot be.
    """
    lat_lon = np.full((len(items) + 1, 2), np.nan)
    for table in parts or ():
        rows = items.rows(table["item_id"])
        for column, (name, most) in enumerate((("lat_deg", 90), ("lon_deg", 180))):
            if name in table.columns:
                degrees = table[name].fill_nan(None)
                wrong = degrees.filter((degrees.abs() > most) | ~degrees.is_finite())
                if len(wrong):
                    raise DataError(f"items: {name} holds {wrong[0]}, and {len(wrong)} in all beyond ±{most}; correct them")
                lat_lon[rows, column] = degrees.fill_null(float("nan")).to_numpy()
    return lat_lon


def offsets_min(entries: Entries) -> Rows:
    """Minutes from UTC of the clock of each entry, UNKNOWN_MIN where unknown."""
    return entries.offset_E.cast(pl.Int64).fill_null(UNKNOWN_MIN).to_numpy(writable=True)
