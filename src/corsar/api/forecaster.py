"""What all forecasters share: settings, fit, predict, evaluate, save and load."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import polars as pl
import torch
from torch import Tensor

from corsar.api.forecast_files import Fitted, open_forecaster, save_forecaster
from corsar.api.forecast_settings import forecast_settings
from corsar.api.temporary import TemporaryFolder
from corsar.data.loader import seed_of
from corsar.data.series import ID, TIME, VALUE, SeriesTable, read_series, time_marks
from corsar.errors import ConfigError, DataError
from corsar.evaluate.forecast import RollingErrors, Scale, rolling_errors
from corsar.models import forecaster_class
from corsar.models.forecaster import Forecaster
from corsar.progress import Progress
from corsar.series import Panel, SeriesBatch
from corsar.sources.files import as_polars, is_pandas
from corsar.train.series import Windows, train_forecaster

if TYPE_CHECKING:
    import pandas as pd

    from corsar.sources.files import Frame

    Answer = pl.DataFrame | pd.DataFrame

FREE_KEYS = {"epochs", "stop_patience", "checkpoint_every", "device", "threads", "preset"}  # a resumed run may change them
BATCH = 64  # windows forecast at once


class ForecastEstimator:
    """A forecaster with its settings: `fit` trains it on a long frame, `predict` goes on where the frame ends.

    Settings are keywords: those of the model; those of training (epochs, batch_size, learning_rate, rate_factor,
    rate_hold, stop_patience, clip_norm, checkpoint_every); seed, device and threads; and `multivariate`: False, the
    default, forecasts each series on its own by one model that learns from all, True forecasts all of them together, as
    variables of one series.
    """

    model_name: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    usual: ClassVar[dict[str, Any]] = {}  # settings that suit this model better than the general ones

    def __init__(self, **settings: Any) -> None:
        self._settings = forecast_settings(self.model_name, self.presets, self.usual, settings)
        self._fitted: Fitted | None = None
        self._columns = (ID, TIME, VALUE)

    @property
    def fitted(self) -> Fitted:
        """What was trained; ConfigError before `fit` and `load`."""
        if self._fitted is None:
            raise ConfigError(f"this {type(self).__name__} is not fitted; call fit, or load one that was saved")
        return self._fitted

    def fit(
        self,
        frame: Frame,
        *,
        valid_size: int | None = None,
        run_dir: Path | str | None = None,
        resume: bool = False,
        progress: bool = False,
        id_col: str = ID,
        time_col: str = TIME,
        target_col: str = VALUE,
    ) -> Self:
        """Train on a long frame, one row a step of a series; the estimator itself comes back.

        Args:
            frame: unique_id, ds (times or whole numbers, evenly spaced) and y, in any order, of polars or pandas.
            valid_size: Newest steps of each series that are not trained on, but choose the best epoch and end the training;
                a fifth where not told, no fewer than the horizon. 0: train all epochs on everything.
            run_dir: Where the run is kept (metrics.jsonl, checkpoint/, artifact/); without it, only the estimator is.
            resume: Go on with the run in `run_dir` that was stopped, or start it.
            progress: Show a bar on stderr.
            id_col: What the frame calls `unique_id`; `time_col` and `target_col` say the same of `ds` and `y`.

        Raises:
            ConfigError: The settings do not fit.
            DataError: The series are too short, uneven, or have missing or double steps.
        """
        if resume and run_dir is None:
            raise ConfigError("resume=True goes on with a run that was stopped; name its run_dir")
        self._columns = (id_col, time_col, target_col)
        table = read_series(self._long(frame), multivariate=self._settings.multivariate)
        model = self._build(table)
        valid_G = _valid_rows(table, model, valid_size)
        scale = _scale(table, valid_G)
        if model.trained:
            windows = _windows(table, model, scale, valid_G)
            home = TemporaryFolder() if run_dir is None else None
            folder = home.path if home else Path(str(run_dir))
            with Progress(quiet=not progress) as shown:
                train_forecaster(
                    model, windows, self._settings.training, self._settings.run, folder, self._identity(table, windows),
                    resume=resume, progress=shown,
                )  # fmt: skip
        newest = [pl.col(name).tail(max(2, model.past_len)) for name in (TIME, VALUE)]
        history = table.frame().group_by(ID, maintain_order=True).agg(newest).explode(TIME, VALUE)
        self._fitted = Fitted(
            model.eval(), table.ids, history, scale, table.spacing, self._settings.multivariate, is_pandas(frame)
        )
        if run_dir is not None:
            self.save(Path(run_dir) / "artifact")
        return self

    def predict(self, h: int | None = None, frame: Frame | None = None) -> Answer:
        """The `h` steps after the newest one of each series: a long frame of unique_id, ds and y, in original units.

        Args:
            h: Steps; the horizon of the settings where not told, and for a trained model no more than it.
            frame: Newer steps of series that were fitted, in place of those; they are scaled as in `fit`.

        Returns:
            A frame of the kind that was given here or to `fit`, series by series, its columns called as there.

        Raises:
            ConfigError: The model was trained for fewer steps.
            DataError: A series is not one that was fitted, or too short.
        """
        fitted, model = self.fitted, self.fitted.model
        horizon: int = model.config.horizon
        steps = horizon if h is None else h
        if steps < 1:
            raise ConfigError(f"h={h} is no number of steps; give 1 or more")
        if model.trained and steps > horizon:
            raise ConfigError(f"h={h} is more than the {horizon} steps that it was trained for; fit it with horizon={h}")
        table = self._read(fitted.history if frame is None else self._long(frame))
        panel, scale = self._scaled(table)
        if int((panel.offsets[1:] - panel.offsets[:-1]).min()) < model.past_len:
            raise _too_short(table, model.past_len)
        reach = max(steps, horizon) if model.trained else steps  # what a trained model says of a step hangs on all of them
        place_G = fitted.spacing.after(table.ends(), reach)
        marks_GTM = time_marks(place_G[TIME]).view(len(scale.mean_GV), reach, -1)
        past = panel.batch(panel.offsets[1:] - model.past_len, model.past_len, 0)
        with torch.no_grad():
            parts = [
                model(SeriesBatch(past.past_BLV[some], past.past_marks_BLM[some], marks_GTM[some]))[:, :steps]
                for some in torch.split(torch.arange(len(marks_GTM)), BATCH)
            ]
        values_GTV = torch.cat(parts).double() * scale.std_GV[:, None] + scale.mean_GV[:, None]
        times = place_G.group_by("place", maintain_order=True).head(steps)[TIME]
        answer = table.frame(values_GTV, times).rename(dict(zip((ID, TIME, VALUE), self._columns, strict=True)))
        return answer.to_pandas() if (fitted.is_pandas if frame is None else is_pandas(frame)) else answer

    def evaluate(self, frame: Frame, test_size: int, *, block: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Errors of the forecasts rolled over the newest `test_size` steps: MSE and MAE, scaled and in original units.

        Every window whose future lies in those steps counts; its past may lie before them. Nothing is trained.

        Args:
            frame: Steps of series that were fitted, to the end of the stretch.
            block: Windows of a block of the bootstrap that makes the 95 % intervals; twice the horizon where not told.

        Returns:
            As `RollingErrors.summary` says, and `by_series`: the same metrics by series.
        """
        errors, table = self._roll(frame, test_size, progress)
        told = errors.summary(block or 2 * self.fitted.model.config.horizon)
        return told | {"by_series": {str(table.ids[place]): one for place, one in errors.by_series().items()}}

    def rolling(self, frame: Frame, test_size: int, *, progress: bool = False) -> RollingErrors:
        """The errors behind `evaluate`, window by window, to compare two forecasters on the same windows."""
        return self._roll(frame, test_size, progress)[0]

    def _roll(self, frame: Frame, test_size: int, progress: bool) -> tuple[RollingErrors, SeriesTable]:
        model = self.fitted.model
        table = self._read(self._long(frame))
        panel, scale = self._scaled(table)
        ends_G = panel.offsets[1:]
        starts_W = panel.window_starts(model.past_len, model.config.horizon, ends_G - test_size, ends_G)
        if test_size < model.config.horizon:
            raise ConfigError(f"test_size={test_size} holds no forecast of {model.config.horizon} steps; give that or more")
        if len(starts_W) == 0:
            raise _too_short(table, model.past_len + model.config.horizon)
        with Progress(quiet=not progress) as shown:
            return rolling_errors(model, panel, starts_W, scale, progress=shown), table

    def save(self, path: Path | str) -> None:
        """Write the forecaster as a directory, in place of one that is there."""
        save_forecaster(Path(path), self.fitted, self.model_name, self.get_params())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The forecaster saved at `path`, or fitted into a run directory."""
        fitted, name, settings = open_forecaster(path)
        if name != cls.model_name:
            raise ConfigError(f"{path} holds the model {name}, not {cls.model_name}; open it with corsar.load")
        one = cls(**settings)
        one._fitted = fitted
        return one

    def get_params(self) -> dict[str, Any]:
        """All settings by name; `type(estimator)(**estimator.get_params())` is the same estimator, not fitted."""
        return self._settings.told()

    def __repr__(self) -> str:
        usual = type(self)().get_params()
        told = [f"{key}={value!r}" for key, value in self.get_params().items() if value != usual[key]]
        return f"{type(self).__name__}({', '.join(told)})"

    def _long(self, frame: Frame) -> pl.DataFrame:
        """The frame under the names unique_id, ds and y."""
        known = {theirs: ours for theirs, ours in zip(self._columns, (ID, TIME, VALUE), strict=True) if theirs != ours}
        read = as_polars(frame, "the frame of series").collect()
        return read.rename({theirs: ours for theirs, ours in known.items() if theirs in read.columns})

    def _model_config(self, table: SeriesTable) -> Any:
        """The model's settings for these series."""
        return self._settings.model

    def _build(self, table: SeriesTable) -> Forecaster:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(self._settings.run.seed, "initialisation"))
            return forecaster_class(self.model_name)(self._model_config(table), table.panel.values_NV.shape[1])

    def _identity(self, table: SeriesTable, windows: Windows) -> dict[str, Any]:
        told = {key: value for key, value in self.get_params().items() if key not in FREE_KEYS}
        told["windows"] = [len(windows.train_W), len(windows.valid_W)]
        series = hashlib.sha256(table.panel.values_NV.numpy().tobytes()).hexdigest()
        return {"model": self.model_name, **told, "series of hash": series[:16]}

    def _read(self, frame: pl.DataFrame) -> SeriesTable:
        """A table of series that were fitted, in the model's order."""
        fitted = self.fitted
        if ID in frame.columns:
            given = frame[ID].unique()
            unknown = given.filter(~given.cast(pl.String).is_in(fitted.ids.cast(pl.String).to_list()))
            if len(unknown) or given.dtype != fitted.ids.dtype:
                which = unknown[0] if len(unknown) else given[0]
                raise DataError(f"series {which!r} was not there when this was fitted; fit again with it, or leave it out")
            if fitted.multivariate and len(given) < len(fitted.ids):
                missing = fitted.ids.filter(~fitted.ids.is_in(given.to_list()))
                raise DataError(f"series {missing[0]!r} is missing, a variable of every forecast; give all of them")
            order = pl.DataFrame({ID: fitted.ids}).with_row_index("place")
            frame = frame.join(order, on=ID, how="left", maintain_order="left").sort("place", maintain_order=True).drop("place")
        return read_series(frame, multivariate=fitted.multivariate, spacing=fitted.spacing)

    def _scaled(self, table: SeriesTable) -> tuple[Panel, Scale]:
        """The series in units of the scale that they had in `fit`, and that scale."""
        scale = self.fitted.scale
        if not self.fitted.multivariate:
            order = pl.DataFrame({ID: self.fitted.ids}).with_row_index("place")
            rows = pl.DataFrame({ID: table.ids}).join(order, on=ID, how="left", maintain_order="left")["place"]
            rows_G = rows.cast(pl.Int64).to_torch()
            scale = Scale(scale.mean_GV[rows_G], scale.std_GV[rows_G])
        dtype = torch.float32 if self.fitted.model.trained else torch.float64  # rules have no weights that are of float32
        return table.panel.scaled(scale.mean_GV, scale.std_GV, dtype), scale


def _valid_rows(table: SeriesTable, model: Forecaster, valid_size: int | None) -> Tensor:
    """The first row of each group's validation part, [G]; where it has none, its end."""
    ends_G, horizon = table.panel.offsets[1:], model.config.horizon
    length_G = ends_G - table.panel.offsets[:-1]
    need = model.past_len + horizon if model.trained else model.past_len
    if valid_size is None:
        room_G = length_G - need
        size_G = torch.where(room_G >= horizon, torch.minimum((length_G // 5).clamp(min=horizon), room_G), 0)
        size_G = size_G if model.trained else torch.zeros_like(size_G)
    elif valid_size < 0 or (model.trained and 0 < valid_size < horizon):
        raise ConfigError(f"valid_size={valid_size} holds no forecast of {horizon} steps; give that or more, or 0 for none")
    else:
        size_G = torch.full_like(length_G, valid_size)
    if bool((length_G - size_G < need).any()):
        raise _too_short(table, need + (valid_size or 0))
    return ends_G - size_G


def _windows(table: SeriesTable, model: Forecaster, scale: Scale, valid_G: Tensor) -> Windows:
    panel, horizon = table.panel.scaled(scale.mean_GV, scale.std_GV), model.config.horizon
    train_W = panel.window_starts(model.past_len, horizon, panel.offsets[:-1], valid_G)
    return Windows(panel, train_W, panel.window_starts(model.past_len, horizon, valid_G, panel.offsets[1:]))


def _scale(table: SeriesTable, valid_G: Tensor) -> Scale:
    """Mean and spread of each variable over its group's training part; a constant one is only moved."""
    spans = zip(table.panel.offsets[:-1].tolist(), valid_G.tolist(), strict=True)
    parts = [table.panel.values_NV[first:end] for first, end in spans]
    std_GV = torch.stack([part.std(0, correction=0) for part in parts])
    return Scale(torch.stack([part.mean(0) for part in parts]), torch.where(std_GV == 0, 1.0, std_GV))


def _too_short(table: SeriesTable, need: int) -> DataError:
    lengths = table.panel.offsets[1:] - table.panel.offsets[:-1]
    shortest = int(lengths.argmin())
    return DataError(
        f"series {table.ids[shortest]!r} has {int(lengths[shortest])} steps and {need} are needed; give longer series, leave "
        "it out, or lower input_len or horizon"
    )
