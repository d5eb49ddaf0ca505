"""Where places are and how the clocks of check-ins stand, as they go into a dataset directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from corsar.errors import DataError
from corsar.places import UNKNOWN_MIN, Places

if TYPE_CHECKING:
    from corsar.data.entries import Entries
    from corsar.schema import Tables
    from corsar.vocab import Vocab


def make_places(tables: Tables, entries: Entries, items: Vocab) -> Places:
    """Coordinates of all item rows, NaN where the tables have none, and the offset of each entry.

    Raises:
        DataError: a latitude or longitude cannot be.
    """
    lat_lon = np.full((len(items) + 1, 2), np.nan)
    if tables.items is not None:
        rows = items.rows(tables.items["item_id"])
        for column, (name, most) in enumerate((("lat_deg", 90), ("lon_deg", 180))):
            if name in tables.items.columns:
                degrees = tables.items[name].fill_nan(None)
                wrong = degrees.filter((degrees.abs() > most) | ~degrees.is_finite())
                if len(wrong):
                    raise DataError(f"items: {name} holds {wrong[0]}, and {len(wrong)} in all beyond ±{most}; correct them")
                lat_lon[rows, column] = degrees.fill_null(float("nan")).to_numpy()
    offsets = entries.offset_E.cast(pl.Int64).fill_null(UNKNOWN_MIN).to_numpy(writable=True)
    return Places(torch.from_numpy(lat_lon), torch.from_numpy(offsets))
