"""A service over small models, for the tests that ask one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import Client, client_of, make_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Those of `make_runs`."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def client(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Calls a service of them."""
    with client_of(runs, tmp_path_factory.mktemp("state") / "events.sqlite") as client:
        yield client
