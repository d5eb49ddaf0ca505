"""The layout of UniSAR's release, in and out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from corsar.api.export import Exported, export_release
from corsar.artifact import find_artifact, open_artifact
from corsar.data.beside import whole_directory
from corsar.data.release import build_with_samples
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.progress import Progress
from corsar.sources.pickles import write_pickle
from corsar.sources.unisar_release import read_unisar_release, release_files

File = Path | str
LAYOUTS = ("unisar-release",)


def prepare_unisar_release(
    folder: File, out: File, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """The eleven pickles that UniSAR's release consists of as a dataset directory, with its split, samples and candidates.

    Nothing in the pickles is run: they are read by an unpickler that knows builtin containers, arrays and frames alone.

    Example:
        >>> import corsar, tempfile
        >>> from corsar.api.release import export_data
        >>> from corsar.sources.simulate import simulate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = simulate(folder + "/raw", users=20)
        ...     _ = corsar.prepare_kuaisar(folder + "/raw", folder + "/dataset", split="leave_last")
        ...     _ = export_data(folder + "/dataset", folder + "/release")
        ...     told = corsar.prepare_unisar_release(folder + "/release", folder + "/again")
        >>> told["counts"]["users"]
        20
    """
    release = read_unisar_release(folder)
    samples = {key: (one.table, one.negatives_NC) for key, one in release.samples.items()}
    path = build_with_samples(release.tables, samples, out, overwrite=overwrite, progress=progress)
    manifest = open_dataset(path).manifest
    return {"path": str(path), "funnel": manifest["funnel"], "counts": manifest["counts"]}


def export_data(source: File, out: File, *, to: str = "unisar-release", overwrite: bool = False) -> dict[str, Any]:
    """A dataset, or that of a run, as the files that published code reads: {"path", "files", "sizes", "lost", "notes"}.

    `sizes` are the numbers that the published code wants to know; `lost` counts what the layout cannot hold, and `notes` are
    sentences on what is told otherwise than in the dataset: of KuaiSAR's raw files two attributes are swapped, as published.

    Args:
        source: A dataset directory, a run or an artifact.
        out: The folder to write.
        to: The layout; unisar-release is the one that there is.
        overwrite: Replace a folder that holds such files.

    Raises:
        ConfigError: The layout is unknown, or pandas is missing.
        DataError: It is no dataset of feed and search events, or its catalogue is too small for 99 negatives a case.
    """
    if to not in LAYOUTS:
        raise ConfigError(f"there is no layout '{to}' to export to; choose {LAYOUTS[0]}, or trec for a run")
    if importlib.util.find_spec("pandas") is None:
        raise ConfigError("the samples of a release are frames of pandas; install it with: pip install 'corsar[pandas]'")
    out, dataset = Path(out), _dataset_of(Path(source))
    is_release = (out / "vocab" / "user_vocab.pkl").is_file()
    if out.exists() and not (overwrite and is_release):
        raise DataError(f"'{out}' exists; choose another folder, or add --overwrite (overwrite=True) where it is a release")
    exported = export_release(dataset)
    with whole_directory(out) as beside:
        for folder in ("vocab", "dataset"):
            (beside / folder).mkdir()
        files = release_files(beside)
        for name, file in files.items():
            write_pickle(_content(exported, name), file)
        names = [file.relative_to(beside).as_posix() for file in files.values()]
    told = {"sizes": exported.sizes, "lost": exported.lost, "notes": exported.notes}
    return {"path": str(out), "files": names, **told}


def _dataset_of(source: Path) -> Dataset:
    """The dataset at `source`, or that of the run or artifact there."""
    if (source / "manifest.json").is_file() and (source / "history").is_dir():
        return open_dataset(source)
    if (source / "config.toml").is_file() or (source / "artifact").is_dir() or (source / "model.toml").is_file():
        return open_dataset(open_artifact(find_artifact(source)).config.data.path)
    return open_dataset(source)


def _content(exported: Exported, name: str) -> Any:
    """What the file of that name holds; samples become a frame of pandas whose names any version of it reads."""
    if name in exported.vocab:
        return exported.vocab[name]
    import pandas as pd

    columns = exported.samples[name]
    frame = pd.DataFrame(dict(zip(range(len(columns)), columns.values(), strict=True)))
    frame.columns = pd.Index(list(columns), dtype=object)
    return frame
