"""`corsar serve` as a process: it starts, answers, takes signals, and says in a sentence what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import corsar
from corsar.cli import main

SRC = str(Path(__file__).parents[2] / "src")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events, items = corsar.example_logs()
    run = tmp_path_factory.mktemp("serve") / "run"
    corsar.Blend().fit(corsar.Dataset.from_frames(events, items=items), run_dir=run)
    return run


class Server:
    """A process that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        greeting = self.line()
        assert " answers recommend by blend, search by blend" in greeting, greeting
        self.url = greeting.split()[1]

    def line(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def __call__(self, path: str, body: Any = None, key: str = "k3y") -> Any:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        raw = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, raw, headers), timeout=30) as answered:
            return json.load(answered)


@contextmanager
def serving(run: Path, state: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "corsar.cli", "serve", str(run), "--port", "0", "--state", str(state), "--key-env", "KEY"]
    env = {**os.environ, "PYTHONPATH": SRC, "KEY": "k3y"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


@pytest.mark.slow
def test_serve_answers_reloads_and_keeps_what_it_acknowledged(run: Path, tmp_path: Path) -> None:
    state = tmp_path / "events.sqlite"
    event = {"user_id": "new", "kind": "feed", "item_id": 3, "key": "e"}
    ask = {"user_id": "new", "k": 12}
    with serving(run, state) as server:
        assert server("/v1/recommend", {"user_id": "u1", "k": 3})["items"] == corsar.recommend(run, user="u1", k=3)["items"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            server("/version", key="guess")
        fingerprint = server("/version")["fingerprint"]
        before = server("/v1/recommend", ask)["items"]
        assert server("/v1/events", {"events": [event]}) == {"stored": 1, "known": 0}
        after = server("/v1/recommend", ask)["items"]
        assert after != before
        server.process.send_signal(signal.SIGHUP)
        assert server.line() == f"corsar: the model is {fingerprint} now\n"
        server.process.kill()
        assert server.process.wait(10) == -signal.SIGKILL
    with serving(run, state) as server:
        assert server("/v1/recommend", ask)["items"] == after
        assert server("/v1/events", {"events": [event]}) == {"stored": 0, "known": 1}
        manifest = run / "artifact" / "manifest.json"
        whole = manifest.read_bytes()
        manifest.write_bytes(b"{}")
        server.process.send_signal(signal.SIGHUP)
        assert server.line().startswith("corsar: the old model goes on: ")
        manifest.write_bytes(whole)
        assert server("/v1/recommend", ask)["items"] == after
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) in (0, -signal.SIGTERM)
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "name at least one run"),
        (["RUN", "--host", "0.0.0.0", "--port", "0"], "open to other machines and there is no key"),
        (["RUN", "--key-env", "CORSAR_NO_SUCH_KEY"], "CORSAR_NO_SUCH_KEY holds no key"),
        (["RUN", "--port", "TAKEN"], "address already in use; choose another"),
        (["RUN", "--port", "99999999"], "there is no port 99999999; choose one"),
        (["RUN", "--host", "no.such.host.invalid", "--public"], "choose another --host or --port"),
        (["nowhere", "--port", "0"], "nowhere does not exist; name a run"),
        (["RUN", "--port", "0", "--state", "no/where/events.sqlite"], "cannot write"),
        (["RUN", "--threads", "0"], "must be larger than 0"),
    ],
)
def test_serve_says_what_is_wrong(
    flags: list[str],
    sentence: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = {"RUN": str(run), "TAKEN": str(taken.getsockname()[1])}
        with pytest.raises(SystemExit, match="2"):
            main(["serve", *(told.get(flag, flag) for flag in flags)])
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_serve_without_the_extra_names_the_remedy(run: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {SRC!r})
sys.modules['uvicorn'] = sys.modules['fastapi'] = None
from corsar.cli import main
main(['serve', {str(run)!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "corsar: serving needs uvicorn; install it with: pip install 'corsar[serve]'\n"


def test_serve_settings_know_what_is_local() -> None:
    from corsar.serve.run import is_local

    assert [is_local(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "example.org", "10.0.0.1")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
