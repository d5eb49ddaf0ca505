"""What there is to see in a dataset directory: whether it looks ahead, and how events follow each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corsar.data.audit import audit_dataset
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.related import related
from corsar.evaluate.transition_page import write_transition_page
from corsar.evaluate.transitions import transitions
from corsar.sources.kuaisar import BEIJING_MIN

File = Path | str


def audit_data(path: File) -> dict[str, Any]:
    """Whether any case of a dataset directory could know what had not happened yet: {"path", "cases", "leaks", "same_time"}.

    `leaks` is empty where all is clean; else each names a check, counts what breaks it, and holds the first such rows.
    `same_time` counts the entries that share user and time with another one: by the rule, none is another's history.

    Example:
        >>> import corsar
        >>> from corsar.api.look import audit_data
        >>> dataset = corsar.Dataset.from_frames(corsar.example_logs()[0])
        >>> audit_data(dataset.path)["leaks"]
        []
    """
    dataset = open_dataset(path)
    dataset.verify()
    leaks, same_time = audit_dataset(dataset)
    found = [{"check": one.check, "what": one.what, "count": one.count, "first": one.first} for one in leaks]
    cases = sum(sum(of_split.values()) for of_split in dataset.manifest["counts"]["cases"].values())
    return {"path": str(path), "cases": cases, "leaks": found, "same_time": same_time}


def data_transitions(
    path: File, *, category: str | None = None, utc_offset_min: int | None = None, page: File | None = None
) -> dict[str, Any]:
    """How feed events and searches of a dataset directory follow each other, with 95 % intervals over users.

    Args:
        category: The category column of items that says what is related; by default the one with the most values.
        utc_offset_min: Minutes from UTC of the clock for days and hours; by default that of Beijing for KuaiSAR, else UTC.
        page: Write an HTML page of it as well, with plots; it needs no network.

    Raises:
        ConfigError: There is no such category, or the page needs plotly.
        DataError: The dataset holds check-ins.

    Example:
        >>> import corsar
        >>> from corsar.api.look import data_transitions
        >>> events, items = corsar.example_logs()
        >>> told = data_transitions(corsar.Dataset.from_frames(events, items=items).path)
        >>> [(row["transition"], row["count"]) for row in told["matrix"]][:2]
        [('feed→feed', 90), ('feed→search', 90)]
    """
    dataset = open_dataset(path)
    if "next_place" in dataset.tasks:
        raise DataError(f"'{path}' holds check-ins, and searches are none of them; give a dataset of feed and search events")
    sizes = {column["name"]: column["size"] for column in dataset.manifest["categories"]}
    if category is not None and category not in sizes:
        raise ConfigError(f"there is no category column '{category}'; choose one of {', '.join(sizes) or 'none: leave it out'}")
    category = category or max(sizes, key=lambda name: sizes[name], default=None)
    if utc_offset_min is None:
        utc_offset_min = BEIJING_MIN if dataset.manifest["source"] in ("kuaisar", "unisar-release") else 0
    told = {"path": str(path), "derived": dataset.manifest["derived"], "utc_offset_min": utc_offset_min}
    told |= transitions(dataset, utc_offset_min) | {"related": related(dataset, category)}
    if page is not None:
        told["page"] = str(write_transition_page(told, Path(page)))
    return told
