"""Rules of the source tree that no linter knows: sizes, reading cost, forbidden calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted((SRC / "corsar").rglob("*.py"))
NAMES = [str(file.relative_to(SRC)) for file in FILES]
MODELS = [file for file in FILES if file.parent.name == "models" and file.stem not in ("__init__", "base")]


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _own_imports(file: Path) -> set[Path]:
    """Files of this project that `file` imports, anywhere in it; names imported from a package may be modules."""
    names: set[str] = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        if name.split(".")[0] == "corsar":
            path = SRC.joinpath(*name.split("."))
            found |= {one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()}
    return found


def _reached(file: Path) -> set[Path]:
    seen, todo = set(), [file]
    while todo:
        now = todo.pop()
        if now not in seen:
            seen.add(now)
            todo.extend(_own_imports(now))
    return seen


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_file_over_300_lines_says_why(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 500, f"{file.name} has {lines} lines: cut it in two"
    docstring = ast.get_docstring(_tree(file)) or ""
    assert lines <= 300 or "Why so long:" in docstring, f"{file.name} has {lines} lines and does not say why"


def _lines(file: Path) -> int:
    """Lines that there is something to read in."""
    return sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())


def _chosen(file: Path) -> set[Path]:
    """What a model reads where attention is the mixer; the others are read in its place (their own test stands below)."""
    found = _reached(file)
    others = {one for one in found if one.stem in ("autocorrelation", "fourier")}
    if file.parent.name == "models" and any(one.stem == "mixers" for one in found):
        kept, todo = set(), [file]
        while todo:
            now = todo.pop()
            if now not in kept | others:
                kept.add(now)
                todo.extend(_own_imports(now))
        found = kept
    return found


@pytest.mark.parametrize("file", MODELS, ids=[file.stem for file in MODELS])
def test_model_reads_to_the_bottom_in_1000_lines(file: Path) -> None:
    lines = {one.name: _lines(one) for one in _chosen(file)}
    assert sum(lines.values()) <= 1000, lines


@pytest.mark.parametrize("name", ["autocorrelation", "fourier"])
def test_mixer_reads_to_the_bottom_in_500_lines(name: str) -> None:
    lines = {one.name: _lines(one) for one in _reached(SRC / "corsar" / "nn" / f"{name}.py")}
    assert sum(lines.values()) <= 500, lines


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_file_has_no_print_pickle_eval_or_star_import(file: Path) -> None:
    for node in ast.walk(_tree(file)):
        where = f"{file.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), where
            assert node.func.id != "print" or file.parent.name == "cli", where
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in (("torch", "load"), ("torch", "save")), where
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if file.name == "pickles.py":  # other people's files, through an unpickler that admits data alone
            modules = [module for module in modules if module != "pickle"]
        assert not {"pickle", "dill", "joblib", "marshal"} & {module.split(".")[0] for module in modules}, where
        if isinstance(node, ast.ImportFrom):
            assert "*" not in {alias.name for alias in node.names}, where


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_file_allows_no_pickle_in_numpy(file: Path) -> None:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), file.name
            assert node.value.value is False, file.name
