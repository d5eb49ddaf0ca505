"""The classifier of curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from corsar.api.estimator import to_pandas
from corsar.config import Section, check, hint
from corsar.data.curves import EmptyBins, Scaling, make_grid, scaled
from corsar.errors import ArtifactError, ConfigError, DataError
from corsar.evaluate.report import write_file
from corsar.models.curves import CurveNet
from corsar.progress import Progress
from corsar.sources.curves import Points, read_curves, read_padded
from corsar.sources.files import is_pandas
from corsar.train.curves import CurveTraining, score_curves, train_curves

if TYPE_CHECKING:
    import pandas as pd

    Answer = pl.DataFrame | pd.DataFrame

FORMAT = 1


class Binning(Section):
    """How places are made of points in time (data/curves.py says what each costs)."""

    bin_days: float | None = Field(default=None, gt=0)
    empty_bins: EmptyBins = "zero"


SECTIONS: tuple[type[Any], ...] = (CurveNet.Config, Binning, CurveTraining)


class CurveClassifier:
    """What kind of object each irregular curve belongs to, learned from curves of known objects.

    A curve is all rows of one object in a long table: `object, time, value`, and `band` where there are several. Nothing else
    of the table is read.

    Settings, among others (`get_params()` lists all): mixer ("autocorrelation", "attention"), dim, layers, heads, dropout;
    bin_days (None: point by point, and a lag counts measurements; a width: a lag is a time, at the cost of all that happens
    within one bin), empty_bins; epochs, batch_size, learning_rate, seed, threads.

    Example:
        >>> import corsar, math, polars as pl
        >>> rows = [(n, t, math.sin(t / (1 + n % 2)), "b") for n in range(8) for t in range(20 + n)]
        >>> curves = pl.DataFrame(rows, ["object", "time", "value", "band"], orient="row")
        >>> labels = {n: "slow" if n % 2 else "fast" for n in range(8)}
        >>> model = corsar.CurveClassifier(dim=8, epochs=2, seed=1).fit(curves, labels)
        >>> model.predict(curves).columns, model.predict_proba(curves).columns
        (['object', 'label'], ['object', 'fast', 'slow'])
        >>> model
        CurveClassifier(dim=8, epochs=2, seed=1)
    """

    def __init__(self, **settings: Any) -> None:
        known = [name for kind in SECTIONS for name in kind.model_fields]
        for name in (name for name in settings if name not in known):
            raise ConfigError(f"unknown setting '{name}' of CurveClassifier; {hint(name, known)}")
        self._net_config, self._binning, self._training = (
            check(kind, {name: value for name, value in settings.items() if name in kind.model_fields}, section)
            for kind, section in zip(SECTIONS, ("model", "data", "train"), strict=True)
        )
        if self._net_config.dim % self._net_config.heads:
            raise ConfigError(f"dim = {self._net_config.dim} is no multiple of heads = {self._net_config.heads}; change one")
        self._fitted: tuple[CurveNet, Scaling, list[Any]] | None = None
        self.epochs_: list[dict[str, float]] = []  # of the last fit: loss, valid_loss, valid_accuracy

    @property
    def classes_(self) -> list[Any]:
        """The labels, in the order of the columns of `predict_proba`; ConfigError before `fit` and `load`."""
        return self._parts()[2]

    def fit(
        self,
        curves: Any,
        labels: Any,
        *,
        phase: Any = None,
        columns: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> Self:
        """Learn from curves of known objects; the classifier itself comes back.

        Args:
            curves: A frame of polars or pandas or a file, one row a measurement; with `phase`, values [B, L] or [B, L, C].
            labels: The class of each object: a mapping, a frame of `object` and `label`, or a list in the order in which
                the objects first appear; whole numbers or texts.
            phase: [B, L], the time of each value of arrays; -1 marks padding, at the end or in between. Objects are then
                the row numbers.
            columns: canonical name -> yours, where they differ, as in {"value": "mag"}.
            progress: Show a bar on stderr.

        Raises:
            DataError: The curves are not what they should be, or an object has no label.
            ConfigError: There are fewer than two classes, or a class has one curve alone.
        """
        points = _points(curves, phase, columns)
        classes, label_N = _classes(labels, points.objects)
        grid = make_grid(points.table, points.bands, self._binning.bin_days, self._binning.empty_bins)
        scaling = Scaling.of(grid, points.bands)
        data = scaled(grid, scaling)
        with Progress(quiet=not progress) as shown:
            net, self.epochs_ = train_curves(
                lambda: self._net(scaling, len(classes)), data, label_N, self._training, progress=shown
            )
        self._fitted = (net, scaling, classes)  # type: ignore[assignment]
        return self

    def predict(self, curves: Any, *, phase: Any = None, columns: Mapping[str, str] | None = None) -> Answer:
        """The likeliest class of each object: a frame of object and label, of the kind of frame that was given."""
        objects, logits_NY = self._logits(curves, phase, columns)
        label = pl.Series("label", self.classes_).gather(logits_NY.argmax(1).numpy())
        return _frame([objects, label], curves)

    def predict_proba(self, curves: Any, *, phase: Any = None, columns: Mapping[str, str] | None = None) -> Answer:
        """The probability of each class: a frame of object and a column for each of `classes_`."""
        objects, logits_NY = self._logits(curves, phase, columns)
        share_NY = logits_NY.double().softmax(1).numpy()
        return _frame([objects, *(pl.Series(str(one), share_NY[:, y]) for y, one in enumerate(self.classes_))], curves)

    def save(self, path: Path | str) -> None:
        """Write one file (safetensors: weights, and the settings as its metadata), in place of one that is there.

        Raises:
            OutputError: It cannot be written; what was there before is there still.
        """
        net, scaling, classes = self._parts()
        told = {"format": FORMAT, "settings": self.get_params(), "scaling": asdict(scaling), "classes": classes}
        tensors = {name: one.contiguous() for name, one in net.state_dict().items()}
        metadata = {"corsar.curves": json.dumps(told)}
        write_file(Path(path), lambda beside: save_file(tensors, beside, metadata), SafetensorError)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The classifier that was saved at `path`.

        Raises:
            ArtifactError: There is none, or it is damaged or of another version.
        """
        if not Path(path).is_file():
            raise ArtifactError(f"{path} is no file; name one that CurveClassifier.save wrote")
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {})["corsar.curves"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 a file is no mapping
            if told["format"] != FORMAT:
                raise ArtifactError(f"{path} is of format {told['format']}, this corsar reads {FORMAT}; fit and save it again")
            made = cls(**told["settings"])
            scaling = Scaling(**told["scaling"])
            net = made._net(scaling, len(told["classes"]))
            net.load_state_dict(tensors)
        except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, ConfigError) as error:
            raise ArtifactError(f"{path} holds no classifier of curves, or is damaged; fit and save it again") from error
        made._fitted = (net.eval(), scaling, told["classes"])
        return made

    def get_params(self) -> dict[str, Any]:
        """All settings by name; `CurveClassifier(**model.get_params())` is the same classifier, not fitted."""
        return {**self._net_config.model_dump(), **self._binning.model_dump(), **self._training.model_dump()}

    def __repr__(self) -> str:
        usual = type(self)().get_params()
        told = [f"{key}={value!r}" for key, value in self.get_params().items() if value != usual[key]]
        return f"{type(self).__name__}({', '.join(told)})"

    def _net(self, scaling: Scaling, num_classes: int) -> CurveNet:
        return CurveNet(self._net_config, 2 * len(scaling.bands) + 1, len(scaling.context_mean), num_classes)

    def _parts(self) -> tuple[CurveNet, Scaling, list[Any]]:
        if self._fitted is None:
            raise ConfigError("this CurveClassifier is not fitted; call fit, or load one that was saved")
        return self._fitted

    def _logits(self, curves: Any, phase: Any, columns: Mapping[str, str] | None) -> tuple[pl.Series, Tensor]:
        net, scaling, _ = self._parts()
        points = _points(curves, phase, columns)
        grid = make_grid(points.table, scaling.bands, self._binning.bin_days, self._binning.empty_bins)
        data = scaled(grid, scaling)
        return points.objects, score_curves(net, data, torch.arange(len(data)), self._training.pad_to)


def _points(curves: Any, phase: Any, columns: Mapping[str, str] | None) -> Points:
    return read_curves(curves, columns) if phase is None else read_padded(curves, phase)


def _classes(labels: Any, objects: pl.Series) -> tuple[list[Any], Tensor]:
    """The distinct labels, sorted, and the class number of each object."""
    if is_pandas(labels):
        labels = pl.from_pandas(labels) if hasattr(labels, "columns") else labels.tolist()
    if isinstance(labels, pl.DataFrame):
        for name in (name for name in ("object", "label") if name not in labels.columns):
            raise DataError(f"the labels have no column '{name}'; give a frame of object and label.")
        labels = dict(labels.select("object", "label").iter_rows())
    names = objects.to_list()
    if isinstance(labels, Mapping):
        for name in (name for name in names if name not in labels):
            raise DataError(f"object {name!r} has no label; give one for each object.")
        told = [labels[name] for name in names]
    elif isinstance(labels, Sequence | np.ndarray | pl.Series) and not isinstance(labels, str):
        told = list(labels)
        if len(told) != len(names):
            raise DataError(f"there are {len(told)} labels for {len(names)} objects; give one an object.")
    else:
        raise DataError(f"labels are a {type(labels).__name__}; give a mapping, a frame of object and label, or a list.")
    told = [one.item() if isinstance(one, np.generic) else one for one in told]
    kinds = {type(one) for one in told}
    if len(kinds) != 1 or not kinds <= {int, str, bool}:
        raise DataError("labels must be whole numbers or texts, all of one kind; correct them.")
    classes = sorted(set(told))
    numbers = {one: number for number, one in enumerate(classes)}
    label_N = torch.tensor([numbers[one] for one in told])
    if len(classes) < 2 or int(label_N.bincount().min()) < 2:
        raise ConfigError("there must be two classes or more, and two curves or more of each; give more labelled curves")
    return classes, label_N


def _frame(columns: list[pl.Series], given: Any) -> Answer:
    frame = pl.DataFrame([columns[0].alias("object"), *columns[1:]])
    return to_pandas(frame) if is_pandas(given) else frame
