"""What all estimators share: settings, fit, recommend, search, similar_items, save and load."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import polars as pl
import torch
from pydantic import BaseModel
from torch import Tensor

from corsar.api.dataset import Dataset, held_out_dataset
from corsar.api.engine import People, best_items, similar_rows, stored_people
from corsar.api.questions import allowed_items, plain, query_rows, read_histories, rows_of, told_people
from corsar.api.runs import train_run
from corsar.api.temporary import TemporaryFolder
from corsar.artifact import Artifact, copy_artifact, open_artifact
from corsar.batch import Ragged, Task
from corsar.config import Config, DataSection, RunSection, TrainSection, check, hint, resolve
from corsar.errors import ConfigError
from corsar.models import model_class
from corsar.progress import Progress
from corsar.sources.files import is_pandas

if TYPE_CHECKING:
    import pandas as pd

    from corsar.sources.files import Frame

    Answer = pl.DataFrame | pd.DataFrame

SECTIONS: dict[str, type[BaseModel]] = {"train": TrainSection, "data": DataSection, "run": RunSection}


class Estimator:
    """A model with its settings; `fit` trains it, and everything else asks it.

    Settings are keywords: those of the model and the keys of [train], [data] and [run], each by its name alone, and `preset`.
    """

    model_name: ClassVar[str]

    def __init__(self, *, preset: str = "corrected", **settings: Any) -> None:
        self._config = _config(self.model_name, preset, settings)
        self._tasks_told = "tasks" in settings
        self._artifact: Artifact | None = None
        self._home: TemporaryFolder | None = None  # of the artifact, where no run_dir was named
        self._pandas = False

    @property
    def artifact(self) -> Artifact:
        """What was trained, as `corsar.open_artifact` gives it; ConfigError before `fit` and `load`."""
        if self._artifact is None:
            raise ConfigError(f"this {type(self).__name__} is not fitted; call fit, or load one that was saved")
        return self._artifact

    def fit(
        self,
        train: Dataset | Frame | Path | str,
        valid: Frame | None = None,
        *,
        run_dir: Path | str | None = None,
        resume: bool = False,
        warm_start: bool = False,
        progress: bool | None = None,
    ) -> Self:
        """Train on a dataset; the estimator itself comes back.

        Args:
            train: A Dataset, its directory, or a frame of events (then without texts of items).
            valid: Events to choose the best epoch by, in place of those that the dataset holds out; then all of `train` is
                for training.
            run_dir: Where the run is written, as by `corsar train`; without it, nothing is kept but the estimator.
            resume: Go on with a run in `run_dir` that was stopped.
            warm_start: Start from the weights that this estimator has; users, items and words that are new are added. An
                untrained model is counted anew.
            progress: True shows how far it is: a bar on a terminal, else a line now and then; False shows nothing. By default,
                a bar where stderr is a terminal.

        Raises:
            ConfigError: The settings do not fit the dataset.
            DataError: The logs are not what they should be.
        """
        if resume and run_dir is None:
            raise ConfigError("resume=True goes on with a run that was stopped; name its run_dir")
        trained = model_class(self.model_name).trained
        dataset = _dataset(train, valid)
        keys: dict[str, dict[str, Any]] = {"data": {"path": str(dataset.path)}, "train": {}}
        if trained and not self._tasks_told:
            known = model_class(self.model_name).tasks
            with_cases = [task for task, num in dataset.counts["cases"]["train"].items() if num and task in known]
            keys["train"]["tasks"] = tuple(with_cases) or self._config.train.tasks
        if warm_start:
            keys["train"]["start_from"] = str(self.artifact.path) if trained else None
        home = TemporaryFolder() if run_dir is None else None
        run = home.path / "run" if home else Path(str(run_dir))
        with Progress(quiet=not (sys.stderr.isatty() if progress is None else progress)) as shown:
            train_run(_changed(self._config, keys), run, resume=resume, progress=shown)
        self._artifact, self._home, self._pandas = open_artifact(run), home, dataset.is_pandas
        return self

    def recommend(
        self,
        users: Any = None,
        *,
        history: Any = None,
        k: int = 10,
        exclude_seen: bool = False,
        allow: Any = None,
        exclude: Any = None,
    ) -> Answer:
        """The `k` best items for each user: a frame of user, item, score and rank (1 is best).

        Args:
            users: An id or a list of ids of the logs; one that they do not hold has an empty history, and a warning says so.
            history: What somebody did, the oldest first, in place of what is stored: item ids, or events as
                {"item_id": 7, "query": "red shoes"}, or a frame of events; or a list of such lists, one a user.
            exclude_seen: Leave out the items that a user has had.
            allow: Items to choose from, in place of the whole catalogue.
            exclude: Items to leave out.

        Raises:
            ConfigError: The model does not recommend, or nobody is named.
        """
        names, people = self._people(users, history)
        if names is None:
            raise ConfigError("name users to recommend for, or give a history ([] for somebody unknown)")
        found = self._best("recommend", people, None, k, exclude_seen, allow, exclude)
        return self._frame({"user": names}, *found, users, history)

    def search(
        self,
        queries: Any,
        users: Any = None,
        *,
        history: Any = None,
        k: int = 10,
        exclude_seen: bool = False,
        allow: Any = None,
        exclude: Any = None,
    ) -> Answer:
        """The `k` best items for each query: a frame of user, query, item, score and rank (1 is best).

        Args:
            queries: A text, or one a user; one text goes for all users, and one user for all texts.
            users: As for `recommend`, as are the arguments below; without users and history, nobody in particular asks.

        Raises:
            ConfigError: The model does not search, or there are not as many queries as users.
        """
        texts = plain(queries)
        names, people = self._people(users, history)
        if names is None:
            names = [None] * len(texts)
            people = stored_people(self.artifact, torch.zeros(len(texts), dtype=torch.int64))
        if len(names) == 1:
            names, people = names * len(texts), people.take(torch.zeros(len(texts), dtype=torch.int64))
        elif len(texts) == 1:
            texts = texts * len(names)
        if len(texts) != len(names):
            raise ConfigError(f"there are {len(texts)} queries for {len(names)} users; give one a user, or one in all")
        words, _ = query_rows(self.artifact, texts)
        found = self._best("search", people, words, k, exclude_seen, allow, exclude)
        return self._frame({"user": names, "query": texts}, *found, users, history, queries)

    def similar_items(self, items: Any, *, k: int = 10) -> Answer:
        """The `k` items most like each of the given ones: a frame of source, item, score and rank (1 is best).

        Trained models compare their embeddings (cosine), co-visit and blend count co-visits, BM25 compares texts, and for
        popularity the most popular items are the answer to everything.

        Raises:
            DataError: An item is not in the catalogue.
        """
        told = plain(items)
        rows = torch.from_numpy(rows_of(self.artifact.items, told, "items", known=True))
        return self._frame({"source": told}, *similar_rows(self.artifact, rows, k), items)

    def save(self, path: Path | str) -> None:
        """Write the artifact directory, in place of one that is there; `corsar recommend` and `evaluate` read it too."""
        copy_artifact(self.artifact, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The estimator saved at `path`, or trained into a run directory."""
        return cls.of(open_artifact(path))

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The estimator around an opened artifact."""
        name = artifact.config.model["name"]
        if name != cls.model_name:
            raise ConfigError(f"{artifact.path} holds the model {name}, not {cls.model_name}; open it with corsar.load")
        estimator = cls()
        estimator._config = _changed(artifact.config, {"data": {"path": ""}, "train": {"start_from": None}})
        estimator._tasks_told = True
        estimator._artifact = artifact
        return estimator

    def get_params(self) -> dict[str, Any]:
        """All settings by name; `type(estimator)(**estimator.get_params())` is the same estimator, not fitted."""
        config = self._config
        told = {"preset": config.preset, **config.model}
        for section in SECTIONS:
            told |= getattr(config, section).model_dump()
        return {key: value for key, value in told.items() if key not in ("name", "path")}

    def __repr__(self) -> str:
        usual = type(self)().get_params()
        told = [f"{key}={value!r}" for key, value in self.get_params().items() if value != usual[key]]
        return f"{type(self).__name__}({', '.join(told)})"

    def _people(self, users: Any, history: Any) -> tuple[list[Any] | None, People]:
        """How the askers are called, and their rows; None where nobody is named."""
        names = None if users is None else plain(users)
        if history is None:
            return names, self._stored(names or [])
        histories, owners = read_histories(history)
        if names is not None and len(names) != len(histories):
            raise ConfigError(f"there are {len(histories)} histories for {len(names)} users; give one a user")
        known = names if names is not None else owners
        rows = rows_of(self.artifact.users, known or [], "users")
        user_B = torch.zeros(len(histories), dtype=torch.int64) if known is None else torch.from_numpy(rows)
        people, _ = told_people(self.artifact, histories, user_B)
        return known if known is not None else list(range(len(histories))), people

    def _stored(self, names: list[Any]) -> People:
        """Users with what is stored of them; called by what a person's own call called, so that the warning points there."""
        rows = rows_of(self.artifact.users, names, "users")
        unknown = [name for name, row in zip(names, rows.tolist(), strict=True) if not row and name is not None]
        if unknown:
            told = f"{len(unknown)} of {len(names)} users are not in the logs, so nothing is known of their history"
            warnings.warn(f"{told}; first: {unknown[0]!r}", stacklevel=4)
        return stored_people(self.artifact, torch.from_numpy(rows))

    def _best(
        self, task: Task, people: People, words: Ragged | None, k: int, exclude_seen: bool, allow: Any, exclude: Any
    ) -> tuple[Tensor, Tensor]:
        allowed_I = allowed_items(self.artifact, allow, exclude)
        return best_items(self.artifact, task, people, words, k, allowed_I=allowed_I, exclude_seen=exclude_seen)

    def _frame(self, asked: dict[str, list[Any]], rows_BK: Tensor, scores_BK: Tensor, *given: Any) -> Answer:
        """One line an answer, of the kind of frame that was given, else of the kind that was fitted."""
        question, place = rows_BK.nonzero(as_tuple=True)
        columns = {name: pl.Series(name, values).gather(question.numpy()) for name, values in asked.items()}
        item = self.artifact.items.ids(rows_BK[question, place].numpy())
        score = scores_BK[question, place].double().numpy()
        frame = pl.DataFrame({**columns, "item": item, "score": score, "rank": (place + 1).numpy()})
        is_polars = any(isinstance(one, pl.DataFrame | pl.LazyFrame | pl.Series) for one in given)
        if any(is_pandas(one) for one in given) or (self._pandas and not is_polars):
            return to_pandas(frame)
        return frame


def to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """The frame as one of pandas; ConfigError where pandas is not installed."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise ConfigError("answers as frames of pandas need pandas; install it with: pip install 'corsar[pandas]'") from None
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def _dataset(train: Dataset | Frame | Path | str, valid: Frame | None) -> Dataset:
    if isinstance(train, Path | str):
        train = Dataset.open(train)
    if isinstance(train, Dataset):
        return train if valid is None else train.with_held_out(valid)
    return Dataset.from_frames(train) if valid is None else held_out_dataset(train, valid, None, None, {})


def _config(name: str, preset: str, settings: dict[str, Any]) -> Config:
    """The settings as sections, checked to the last key."""
    cls = model_class(name)
    kind: type[BaseModel] = cls.Config
    places = dict.fromkeys(kind.model_fields, "model")
    places |= {key: section for section, keys in SECTIONS.items() for key in keys.model_fields}
    del places["name"], places["path"]
    given: dict[str, Any] = {"preset": preset, "model": {"name": name}}
    for key, value in settings.items():
        if key not in places:
            raise ConfigError(f"unknown setting '{key}' of the model {name}; {hint(key, places)}")
        given.setdefault(places[key], {})[key] = value
    config = resolve(given)
    model = check(cls.Config, config.model, "model").model_dump(mode="json")
    return config.model_copy(update={"model": {"name": name, **model}})


def _changed(config: Config, keys: dict[str, dict[str, Any]]) -> Config:
    """The settings with other values in some sections."""
    return config.model_copy(update={name: getattr(config, name).model_copy(update=more) for name, more in keys.items()})
