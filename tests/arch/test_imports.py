"""What an import costs and changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
START = f"import sys; sys.path.insert(0, {str(SRC)!r}); "


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cli_imports_no_heavy_library() -> None:
    loaded = _python("import corsar.cli; print(*(m for m in ('torch', 'polars', 'numpy') if m in sys.modules))")
    assert loaded.split() == []


def test_help_answers_in_three_tenths_of_a_second() -> None:
    took = []
    for _ in range(5):
        # processor time: on an idle machine it is what a person waits, and other tests at work do not add to it
        before = os.times()
        text = _python("from corsar.cli import main; main(['--help'])")
        after = os.times()
        took.append(after.children_user - before.children_user + after.children_system - before.children_system)
        assert "recommend" in text
    assert min(took) <= 0.3, took


def test_import_of_any_module_changes_nothing() -> None:
    code = """
import logging, os, pkgutil, random, signal, torch, numpy, warnings
def state():
    return (dict(os.environ), logging.getLogger().handlers[:], logging.getLogger().level, random.getstate(),
            torch.random.get_rng_state().tolist(), str(numpy.random.get_state()), torch.get_num_threads(),
            torch.get_default_dtype(), signal.getsignal(signal.SIGINT), os.getcwd(),
            torch.are_deterministic_algorithms_enabled())
import polars, cyclopts, pydantic, rich.progress
before = state()
import corsar
names = [m.name for m in pkgutil.walk_packages(corsar.__path__, 'corsar.') if not m.name.endswith('__main__')]
for name in names:
    __import__(name)
assert len(names) > 10
assert state() == before
"""
    assert _python(code) == ""


def test_public_names_load() -> None:
    _python("import corsar; assert all(getattr(corsar, name) is not None for name in corsar.__all__)")


def test_package_import_is_light() -> None:
    loaded = _python("import corsar; print(*(m for m in ('torch', 'polars', 'numpy') if m in sys.modules))")
    assert loaded.split() == []
