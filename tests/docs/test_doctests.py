"""Every public name has a docstring with an example, and the examples run."""

from __future__ import annotations

import doctest
import io
from pathlib import Path

import pytest

import corsar


def _tests(name: str) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=False)
    return finder.find(getattr(corsar, name), f"corsar.{name}", globs={})


@pytest.mark.parametrize("name", corsar.__all__)
def test_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own, *others = sorted(_tests(name), key=lambda one: len(one.name))
    assert own.name == f"corsar.{name}"
    assert own.examples, f"{own.name} has no example in its docstring"
    for test in (own, *others):
        told = io.StringIO()
        failed = doctest.DocTestRunner().run(test, out=told.write).failed
        assert not failed, told.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_there_are_a_few_public_names_and_no_more() -> None:
    assert 10 <= len(corsar.__all__) <= 30
