"""A trained model with all it needs to answer: weights, settings, vocabularies, catalogue, newest events of each user.

A directory of model.toml, weights.safetensors, Parquet and `.npy` files, and manifest.json with versions and hashes.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from corsar.batch import Catalogue, Ragged, Sizes
from corsar.config import Config, check, dump_config, load_config
from corsar.data.store import (
    file_hash,
    open_catalogue,
    open_history,
    open_places,
    open_ragged,
    save_catalogue,
    save_history,
    save_places,
    save_ragged,
)
from corsar.errors import ArtifactError, ConfigError, CorsarError, writing
from corsar.models import model_class
from corsar.models.base import Model
from corsar.models.towers import TwoTower, vector_dim
from corsar.places import Places
from corsar.vocab import Vocab
from corsar.windows import History

if TYPE_CHECKING:
    from corsar.data.store import Dataset

FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """An opened artifact; the model is on the CPU, in evaluation mode."""

    path: Path
    model: Model
    config: Config
    sizes: Sizes
    users: Vocab
    items: Vocab
    words: Vocab
    catalogue: Catalogue
    history: History  # the newest `feed_len` and `search_len` entries of each user
    seen: Ragged | None  # all distinct items of each user; an artifact of an earlier version has none
    texts: pl.Series  # of each item row from 1 on, to show to a person
    manifest: dict[str, Any]
    places: Places | None = None  # where places are, and the clocks of the entries; of check-ins alone

    def item_text(self, rows: Sequence[int]) -> list[str]:
        """Text of the item rows to show to a person; empty where there is none."""
        return [self.texts[row - 1] if row else "" for row in rows]


def build_model(config: Config, sizes: Sizes) -> Model:
    """A fresh model by `config.model`; ConfigError where its keys do not fit."""
    name = config.model.get("name", "unisar")
    if not isinstance(name, str):
        raise ConfigError(f'model.name = {name!r} is no text; write it as in name = "unisar"')
    cls = model_class(name)
    model = cls(check(cls.Config, {"name": name, **config.model}, "model"), sizes)
    if config.train.two_tower and model.trained:
        dim = vector_dim(model)
        if not dim:
            raise ConfigError(f"{name} neither recommends nor searches by vectors of items; leave train.two_tower out")
        model.two_tower = TwoTower(sizes, dim)
    return model


def resolved(config: Config, model: Model) -> Config:
    """The settings with every key of the model made explicit."""
    return config.model_copy(update={"model": {"name": config.model["name"], **model.config.model_dump(mode="json")}})


def save_artifact(path: Path, model: Model, config: Config, dataset: Dataset) -> None:
    """Write an artifact, in place of the one that is there.

    Raises:
        OutputError: The disk is full or the like; the artifact that was there is still there.
    """
    with replacing(path) as beside:
        _write(beside, model, config, dataset)


def copy_artifact(artifact: Artifact, path: Path) -> None:
    """Write a copy of an opened artifact, in place of the one that is at `path`.

    Raises:
        ArtifactError: Something else is at `path`.
        OutputError: The disk is full or the like; the artifact that was there is still there.
    """
    if path.resolve() == artifact.path.resolve():
        return
    if path.exists() and not ((path / "manifest.json").is_file() and _manifest(path).get("kind") == "artifact"):
        raise ArtifactError(f"{path} is there already and is no artifact; choose another path")
    with replacing(path, then="save again") as beside:
        shutil.copytree(artifact.path, beside, dirs_exist_ok=True)


@contextmanager
def replacing(path: Path, then: str = "go on with --resume") -> Iterator[Path]:
    """An empty folder beside `path` that takes its place at the end, or is gone where the block fails."""
    beside, old = path.with_name(f".{path.name}.new"), _old(path)
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    with writing(path, SafetensorError, pl.exceptions.PolarsError, then=then):
        try:
            beside.mkdir(parents=True)
            yield beside
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            try:
                beside.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write(beside: Path, model: Model, config: Config, dataset: Dataset) -> None:
    (beside / "model.toml").write_text(dump_config(resolved(config, model)), encoding="utf-8")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, beside / "weights.safetensors")
    for name in ("users", "items", "words"):
        getattr(dataset, name).save(beside / f"{name}.parquet")
    texts = dataset.item_text(list(range(1, len(dataset.items) + 1)))
    pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}).write_parquet(beside / "texts.parquet")
    save_catalogue(dataset.catalogue, beside / "catalogue")
    save_history(last_entries(dataset.history, config.data.feed_len, config.data.search_len), beside / "history")
    save_ragged(dataset.seen, beside / "seen")
    if "next_place" in dataset.tasks:
        at, *_ = _last(dataset.history.feed_offsets, config.data.feed_len)
        save_places(replace(dataset.places, offsets_min=dataset.places.offsets_min[at]), beside / "places")
    manifest = {
        "kind": "artifact",
        "format": FORMAT,
        "corsar": importlib.metadata.version("corsar"),
        "torch": str(torch.__version__),
        "model": config.model["name"],
        "sizes": dataclasses.asdict(model.sizes),
        "dataset": dataset.manifest,
        "files": {str(file.relative_to(beside)): file_hash(file) for file in sorted(beside.rglob("*")) if file.is_file()},
    }
    (beside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def open_artifact(path: Path | str) -> Artifact:
    """The artifact at `path`, or the one of the run at `path`.

    Raises:
        ArtifactError: There is none, or it is damaged, or of another version.

    Example:
        >>> import corsar, tempfile
        >>> events, _ = corsar.example_logs()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = corsar.Popularity().fit(events, run_dir=folder + "/run")
        ...     artifact = corsar.open_artifact(folder + "/run")
        >>> artifact.config.model["name"], len(artifact.items)
        ('popularity', 12)
    """
    path = find_artifact(path)
    manifest = _manifest(path)
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} is of format {manifest.get('format')} (corsar {manifest.get('corsar')}), this corsar reads format "
            f"{FORMAT}; train again, or use the version that wrote it"
        )
    files = manifest.get("files")
    for name, told in files.items() if isinstance(files, dict) else [("manifest.json", "")]:
        if not (path / name).is_file():
            raise ArtifactError(f"{path} has no file {name}; copy the whole directory again, or train again")
        if file_hash(path / name) != told:
            raise ArtifactError(f"{path / name} is not the file that was written; copy it again, or train again")
    try:
        sizes = _sizes(manifest["sizes"])
        config = load_config(path / "model.toml")
        model = build_model(config, sizes)
        model.load_weights(load_file(path / "weights.safetensors"))
        texts = pl.read_parquet(path / "texts.parquet")["text"]
        users, items, words = (Vocab.open(path / f"{name}.parquet") for name in ("users", "items", "words"))
        catalogue, history = open_catalogue(path / "catalogue"), open_history(path / "history")
        seen = open_ragged(path / "seen") if (path / "seen").is_dir() else None
        places = open_places(path / "places") if (path / "places").is_dir() else None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, CorsarError) as error:
        raise ArtifactError(f"{path} cannot be opened ({_first_line(error)}); train again") from error
    return Artifact(path, model.eval(), config, sizes, users, items, words, catalogue, history, seen, texts, manifest, places)


def find_artifact(path: Path | str) -> Path:
    """The artifact's own directory, given it or its run; ArtifactError where there is none."""
    path = Path(path)
    for one in (path, path / "artifact", _old(path / "artifact")):
        if (one / "manifest.json").is_file() and _manifest(one).get("kind") == "artifact":
            return one
    what = "holds no artifact" if path.exists() else "does not exist"
    raise ArtifactError(f"{path} {what}; name a run that `corsar train` has finished an epoch of, or its artifact")


def last_entries(history: History, feed_len: int, search_len: int) -> History:
    """The newest entries of each user and kind, no more than these; windows of these lengths stay the same."""
    feed_at, feed_user, feed_offsets, feeds_dropped = _last(history.feed_offsets, feed_len)
    search_at, search_user, search_offsets, searches_dropped = _last(history.search_offsets, search_len)
    zero = torch.zeros(1, dtype=torch.int64)
    used, local = torch.unique(torch.cat([zero, history.search_queries[search_at]]), return_inverse=True)
    return History(
        feed_items=history.feed_items[feed_at],
        feed_times=history.feed_times[feed_at],
        feed_others=(history.feed_others[feed_at] - searches_dropped[feed_user]).clamp(min=0),
        feed_offsets=feed_offsets,
        search_queries=local[1:],
        search_clicks=history.search_clicks.select(search_at),
        search_times=history.search_times[search_at],
        search_others=(history.search_others[search_at] - feeds_dropped[search_user]).clamp(min=0),
        search_offsets=search_offsets,
        queries=history.queries.select(used),
    )


def _last(offsets: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions of the last entries, their owners, the new offsets, and how many entries each owner lost."""
    lengths = offsets[1:] - offsets[:-1]
    kept = lengths.clamp(max=length)
    new = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
    owner = torch.repeat_interleave(torch.arange(len(kept)), kept)
    at = torch.arange(len(owner)) - new[owner] + (offsets[1:] - kept)[owner]
    return at, owner, new, lengths - kept


def _old(path: Path) -> Path:
    """Where an artifact stands for the moment in which a newer one takes its place."""
    return path.with_name(f".{path.name}.old")


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{path / 'manifest.json'} is damaged; copy the directory again, or train again")
    return manifest


def _sizes(told: dict[str, Any]) -> Sizes:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Sizes(**fields)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
