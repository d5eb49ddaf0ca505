"""The forecasters, one a model; what they can do stands in `forecaster.ForecastEstimator`."""

from __future__ import annotations

from typing import Any

from corsar.api.forecaster import ForecastEstimator
from corsar.data.series import SeriesTable


class Autoformer(ForecastEstimator):
    """Autoformer: forecasts by Auto-Correlation, with the trend taken out after every step; sizes of the paper by default.

    Settings, among others (`get_params()` lists all): horizon, input_len, label_len, dim, heads, encoder_layers,
    decoder_layers, ff_dim, dropout, kernel, factor; epochs, batch_size, learning_rate; seed, device, threads; multivariate;
    preset ("corrected", or "paper": the layer as published). On a CPU, `dim=64, ff_dim=256` trains in minutes.

    Example:
        >>> import corsar, polars as pl
        >>> hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 10), "1h", eager=True)
        >>> frame = pl.DataFrame({"unique_id": "a", "ds": hours, "y": hours.dt.hour().cast(float)})
        >>> model = corsar.Autoformer(horizon=12, input_len=24, label_len=12, dim=16, heads=2, ff_dim=32, epochs=1)
        >>> model.fit(frame).predict(h=12).columns
        ['unique_id', 'ds', 'y']
    """

    model_name = "autoformer"
    presets = {"corrected": {}, "paper": {"lags": "paper_code", "direction": "paper", "normalise": False, "rate_hold": 2}}


class NLinear(ForecastEstimator):
    """NLinear: one linear map of the past, less its last value; seconds to train and hard to beat.

    Settings, among others: horizon, input_len; epochs, batch_size, learning_rate; seed, device, threads; multivariate.

    Example:
        >>> import corsar, polars as pl
        >>> frame = pl.DataFrame({"unique_id": "a", "ds": range(200), "y": [float(t % 8) for t in range(200)]})
        >>> model = corsar.NLinear(horizon=4, input_len=16, epochs=2).fit(frame)
        >>> model.predict()["ds"].to_list()
        [200, 201, 202, 203]
    """

    model_name = "nlinear"
    usual = {"learning_rate": 5e-3}


class SeasonalNaive(ForecastEstimator):
    """Seasonal naive: the last season again and again. Settings: season (steps; by the spacing where not told), horizon.

    Example:
        >>> import corsar, polars as pl
        >>> frame = pl.DataFrame({"unique_id": "a", "ds": range(12), "y": [1, 2, 3] * 4})
        >>> corsar.SeasonalNaive(season=3).fit(frame).predict(h=5)["y"].to_list()
        [1.0, 2.0, 3.0, 1.0, 2.0]
    """

    model_name = "seasonal_naive"

    def _model_config(self, table: SeriesTable) -> Any:
        """The season that comes to mind, where none is told."""
        told: Any = self._settings.model
        return told.model_copy(update={"season": table.spacing.season}) if told.season is None else told


FORECASTERS: dict[str, type[ForecastEstimator]] = {one.model_name: one for one in (Autoformer, NLinear, SeasonalNaive)}
