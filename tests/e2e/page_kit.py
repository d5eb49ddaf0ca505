"""A service in a thread, and a browser that looks at it and keeps what it complains of."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from corsar.serve.app import create_app
from corsar.serve.batcher import Limits
from corsar.serve.service import Service
from corsar.serve.store import SQLiteStore

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def serving(runs: list[Path], state: Path, key: str | None = None) -> Iterator[str]:
    """The address of a service over the runs, which ends with the block."""
    service = Service(runs, SQLiteStore(state), Limits(patience_s=30))  # nobody is refused on a busy machine
    server = uvicorn.Server(uvicorn.Config(create_app(service, key=key), log_level="warning", access_log=False, ws="none"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser, without a window; nobody downloads another."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no chromium; install it with: apt-get install chromium")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@contextmanager
def page_at(browser: Browser, address: str, allowed: tuple[str, ...] = (), **context: object) -> Iterator[Page]:
    """A page that asks nobody but its own service, and whose console holds no error that is not `allowed`, at its end."""
    complaints: list[str] = []
    with browser.new_context(viewport={"width": 1320, "height": 860}, **context) as opened:  # type: ignore[arg-type]
        page = opened.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(f"asked {asked.url}") if _is_foreign(asked.url, address) else None)
        page.goto(address)
        yield page
        left = [one for one in complaints if not any(part in one for part in allowed)]
        assert not left, left


def _is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))
