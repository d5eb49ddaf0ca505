"""The fences of the documentation run.

A page that says `<!-- run all … -->` has all its python and sh fences run, in order, in one empty folder, the python ones
sharing their names. Elsewhere a fence runs that stands under `<!-- run -->`; what files it needs is made here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

import corsar

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?P<mark><!-- run -->\n)?^```(?P<language>python|sh)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
ALL = "<!-- run all"


class Fence(NamedTuple):
    """A piece of a page that is to run."""

    language: str
    code: str
    line: int


def fences(page: str) -> list[Fence]:
    """What of a page is marked for running."""
    marked = [match for match in FENCE.finditer(page) if match["mark"] or ALL in page]
    return [Fence(one["language"], one["code"], page.count("\n", 0, one.start("code"))) for one in marked]


PAGES = [page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if fences(page.read_text(encoding="utf-8"))]


def readme_files() -> None:
    """Logs that README's column map fits, with a user 42; few of them, for README trains with the sizes of the paper."""
    events, items = corsar.example_logs(users=14)
    map_ = next(
        re.finditer(r"^```toml\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
    Path("columns.toml").write_text(map_[1], encoding="utf-8")
    events.select(
        user_id=pl.col("user_id").str.strip_prefix("u").cast(pl.Int64) + 30,
        item_id="item_id",
        kind=pl.col("kind").replace("feed", "home"),
        timestamp=pl.col("time_ms") // 1000,
        search_text="query",
    ).write_csv("events.csv")
    items.select(sku="item_id", title="text", brand=pl.col("text").str.slice(0, 3), department="category").write_csv(
        "items.csv"
    )


FILES: dict[str, Callable[[], None]] = {"README.md": readme_files}


def test_pages_are_found() -> None:
    names = [page.name for page in PAGES]
    assert {"README.md", "quickstart.md"} <= set(names)
    told = "a\n```python\nx\n```\n<!-- run -->\n```sh\ny\n```\n```console\nz\n```\n"
    assert fences(told) == [Fence("sh", "y\n", 6)]
    assert [one.language for one in fences(ALL + " -->\n" + told)] == ["python", "sh"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_fences_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FILES.get(page.name, lambda: None)()
    names: dict[str, object] = {"__name__": "__main__"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for fence in fences(page.read_text(encoding="utf-8")):
        if fence.language == "python":
            code = compile("\n" * fence.line + fence.code, str(page), "exec")  # errors name the line of the page
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, names)  # noqa: S102
            continue
        env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(["bash", "-euc", fence.code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page.name}, line {fence.line}: {done.stderr}"
        assert "Traceback" not in done.stderr
