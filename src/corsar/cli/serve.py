"""corsar serve: a run answers over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

from corsar.cli.app import app
from corsar.errors import ConfigError


@app.command
def serve(
    *runs: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    state: Path = Path("events.sqlite"),
    key_env: str | None = None,
    public: bool = False,
    allow_host: list[str] = [],  # noqa: B006 (never changed)
    threads: int = 1,
    candidates: int = 1000,
    max_wait_ms: int = 500,
    max_waiting: int = 256,
    timeout_s: float = 30.0,
) -> None:
    """Serve runs over HTTP: recommend, search, next-place and events; SIGHUP opens the runs anew.

    Args:
        runs: Runs or artifacts; each task is answered by the first that was trained for it.
        host: The address to listen on; by default this machine alone can reach it.
        port: The port; 0 takes any that is free.
        state: The SQLite file that keeps what users do.
        key_env: Environment variable with the key that clients send as `Authorization: Bearer KEY`.
        public: Serve other machines without a key.
        allow_host: A host name that it answers to, beside this machine's; may be given several times.
        threads: Threads of torch.
        candidates: Items that the model scores of a catalogue of more than 20,000; a first stage chooses them.
        max_wait_ms: A question that would wait longer is answered 503 at once.
        max_waiting: Questions that may wait.
        timeout_s: A question that takes longer is answered 503.
    """
    if min(threads, candidates, max_wait_ms, max_waiting) < 1 or timeout_s <= 0:
        raise ConfigError("threads, candidates, max-wait-ms, max-waiting and timeout-s must be larger than 0; correct them")
    from corsar.serve.batcher import Limits
    from corsar.serve.run import Settings, run_service

    limits = Limits(waiting=max_waiting, patience_s=max_wait_ms / 1000, timeout_s=timeout_s)
    settings = Settings(runs, host, port, state, key_env, public, allow_host, threads, candidates, limits)
    run_service(settings, _tell)


def _tell(sentence: str) -> None:
    print(f"corsar: {sentence}", file=sys.stderr, flush=True)
