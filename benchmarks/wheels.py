"""Is the wheel whole? `python benchmarks/wheels.py [PYTHON ...] [--full 3.12] [--out FILE]` builds it and tries it out.

It makes the source archive and, from that, the wheel; looks at what the wheel holds; then, for each Python, makes an empty
environment, installs torch and the wheel without any extra, and runs `corsar --help` and the demo in a folder of its own.
Interpreters are those named, else python3.11, 3.12 and 3.13 as PATH or pyenv provide them; what is not there is said.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
TORCH = "torch==2.13.0"
SMALL, WHOLE = ["--users", "60"], []  # of the demo
VERSION_CODE = "import sys; print('{}.{}.{}'.format(*sys.version_info))"
WHERE_CODE = "import corsar, pathlib; print(pathlib.Path(corsar.__file__).is_relative_to(pathlib.Path({!r})))"


def main() -> None:
    """Build, look, try, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", help="interpreters to try, in place of those found")
    parser.add_argument("--full", default="3.12", help="the Python that runs the demo whole, and with the extra report")
    parser.add_argument("--out", type=Path, help="Markdown file to write the result to")
    told = parser.parse_args()
    found = {version_of(python): python for python in told.pythons} or find_pythons()
    with tempfile.TemporaryDirectory(prefix="corsar-wheels-") as scratch:
        home = Path(scratch)
        wheel = build(home / "dist")
        held = check_contents(wheel)
        rows = []
        for version, python in sorted(found.items()):
            if python is None:
                rows.append({"Python": version, "result": "not tried: this machine has none"})
            else:
                rows.append(attempt(python, version, wheel, home / version, version.startswith(told.full)))
            print(json.dumps(rows[-1]), flush=True)
            shutil.rmtree(home / version, ignore_errors=True)  # an environment takes gigabytes
    text = page(rows, f"{wheel.name}: {held}")
    print(text)
    if told.out:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text(text, encoding="utf-8")
    if any("failed" in row["result"] for row in rows):
        sys.exit(1)


def find_pythons() -> dict[str, str | None]:
    """An interpreter of each version that PATH or pyenv has; None where there is none."""
    found: dict[str, str | None] = {}
    for version in VERSIONS:
        names = [shutil.which(f"python{version}")]
        if shutil.which("pyenv"):
            root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
            names += sorted(map(str, Path(root).glob(f"versions/{version}.*/bin/python")), reverse=True)
        works = [(version_of(name), name) for name in names if name and version_of(name).startswith(version)]
        found.update(works[:1] or {version: None})
    return found


def version_of(python: str) -> str:
    """Its version; empty where it does not run."""
    return subprocess.run([python, "-c", VERSION_CODE], capture_output=True, text=True, check=False).stdout.strip()


def build(dist: Path) -> Path:
    """The wheel, built from the source archive."""
    run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], ROOT)
    [wheel] = dist.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> str:
    """What the wheel holds, in words; exits where it is not the package, its typing mark and the licence, and no more."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    kept = [file for file in (ROOT / "src").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    meant = {file.relative_to(ROOT / "src").as_posix() for file in kept}
    if package != meant or "corsar/py.typed" not in package or not any(name.endswith("/LICENSE") for name in names):
        sys.exit(f"the wheel is not the package: missing {sorted(meant - package)}, too much {sorted(package - meant)}")
    return f"{len(package)} files of the package, py.typed among them, and {len(names) - len(package)} of metadata"


def attempt(python: str, version: str, wheel: Path, home: Path, full: bool) -> dict[str, str]:
    """Install and run; what went wrong is in the row."""
    row = {"Python": version}
    pip = [str(home / "env/bin/python"), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    corsar = str(home / "env/bin/corsar")
    try:
        run([python, "-m", "venv", str(home / "env")], ROOT)
        row["install"] = f"{run([*pip, TORCH], home)[1] + run([*pip, str(wheel)], home)[1]:.0f} s"
        inside = run([str(home / "env/bin/python"), "-c", WHERE_CODE.format(str(home / "env"))], home)[0]
        if inside.strip() != "True":
            raise RuntimeError("corsar was not imported from the environment")
        run([corsar, "--help"], home)
        row["demo without extras"] = demo(corsar, home / "plain", WHOLE if full else SMALL, page=False)
        if full:
            run([*pip, f"{wheel}[report]"], home)
            row["demo with report"] = demo(corsar, home / "report", SMALL, page=True)
        row["result"] = "works"
    except (RuntimeError, OSError) as error:
        row["result"] = f"failed: {' '.join(str(error).split())[-400:]}"
    return row


def demo(corsar: str, out: Path, size: list[str], page: bool) -> str:
    """Run the demo; how large it was and the seconds that it took."""
    text, took = run([corsar, "demo", "--out", str(out), *size, "--json"], out.parent)
    told = json.loads(text)
    if len(told["parts"]) != 2 or any(not part["table"] for part in told["parts"]):
        raise RuntimeError("the demo has no tables")
    if bool(told["page"]) != page:
        raise RuntimeError(f"the demo wrote the page {told['page']}, which was {'' if page else 'not '}to be expected")
    return f"{' '.join(size) or 'whole'}: {took:.0f} s"


def run(command: list[str], place: Path) -> tuple[str, float]:
    """Standard output and seconds of a command that sees nothing of this repository.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    place.mkdir(parents=True, exist_ok=True)
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    start = time.monotonic()
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:5])} … ended with {done.returncode}: {done.stderr[-600:]}")
    return done.stdout, time.monotonic() - start


def page(rows: list[dict[str, str]], held: str) -> str:
    """The result as Markdown."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.append(columns.pop(columns.index("result")))
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(row.get(column, '') for column in columns)} |" for row in rows]
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {platform.libc_ver()[0]} {platform.libc_ver()[1]}"
    )
    return "\n".join(
        [
            "# The wheel in empty environments",
            "",
            f"`make wheels`, on {machine}, {time.strftime('%Y-%m-%d')}.",
            "",
            f"{held}.",
            "",
            f"Each row: an empty environment, `{TORCH}` and then the wheel without extras, both under `constraints.txt`;",
            "`corsar --help`; `corsar demo` in a folder of its own. The time of installing is mostly the registry's, and other",
            "programs may have run on the machine meanwhile.",
            "",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
