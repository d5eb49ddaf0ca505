"""ETT: hourly load and oil temperature of electricity transformers, as its CSV files hold it.

Source: Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021 (ETDataset).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from corsar.errors import DataError
from corsar.sources.files import scan_file

MONTH = 30 * 24  # hours: the published splits count months of 30 days
TRAIN, VALID, TEST = 12 * MONTH, 4 * MONTH, 4 * MONTH  # steps; what comes after them is used by nobody


def read_ett(path: Path | str) -> pl.DataFrame:
    """The whole file as a long frame: unique_id (HUFL … OT, one a column of the file), ds (naive Datetime), y (Float64).

    Raises:
        DataError: It is no such file.
    """
    scan = scan_file(path)
    if not scan.columns or scan.columns[0] != "date" or len(scan.columns) < 2:
        raise DataError(f"{path}: its first column is not 'date'; give ETTh1.csv or a file like it.")
    time = pl.col("date").str.to_datetime("%Y-%m-%d %H:%M:%S").alias("ds")
    wide = scan.read(scan.frame.select(time, pl.exclude("date").cast(pl.Float64)))
    return wide.unpivot(index="ds", variable_name="unique_id", value_name="y").select("unique_id", "ds", "y")
