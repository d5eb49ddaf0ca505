"""A service from its settings to its end: what `corsar serve` does."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from corsar.errors import ConfigError, CorsarError
from corsar.serve.batcher import Limits

if TYPE_CHECKING:
    import uvicorn

    from corsar.serve.service import Service

DEFAULT = Limits()
SWITCH_S = 0.0005  # the thread that answers lets go of Python at each operation of torch, and waits for it at most so long
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """How a service is to run."""

    runs: Sequence[Path]
    host: str = "127.0.0.1"
    port: int = 8000  # 0 for any that is free
    state: Path = Path("events.sqlite")
    key_env: str | None = None  # the environment variable that holds the key
    public: bool = False  # others than this machine may come without a key
    allow_hosts: Sequence[str] = ()  # names beside those of this machine
    threads: int = 1  # of torch
    candidates: int = 1000  # items that the model scores of a large catalogue
    limits: Limits = DEFAULT


def read_key(settings: Settings) -> str | None:
    """The key that clients must send, None where there is none.

    Raises:
        ConfigError: The variable is empty, or everybody could come in without a key.
    """
    if settings.key_env is not None:
        key = os.environ.get(settings.key_env, "").strip()
        if not key:
            raise ConfigError(f"the environment variable {settings.key_env} holds no key; set it, or leave out --key-env")
        return key
    if not (is_local(settings.host) or settings.public):
        raise ConfigError(
            f"{settings.host} is open to other machines and there is no key; name the environment variable that holds one with "
            "--key-env, or say --public"
        )
    return None


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host in LOCAL or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_service(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP opens the runs anew.

    Args:
        ready: Told the address and what is served, once questions are answered; what else there is to say, too.

    Raises:
        ConfigError: The extra is not installed, or the settings do not fit each other or this machine.
        ArtifactError: A run is missing or damaged.
    """
    try:
        import uvicorn

        from corsar.serve.app import create_app
        from corsar.serve.service import Service
    except ModuleNotFoundError as error:
        raise ConfigError(f"serving needs {error.name}; install it with: pip install 'corsar[serve]'") from None
    if not settings.runs:
        raise ConfigError("name at least one run, as in: corsar serve runs/unisar")
    key = read_key(settings)
    torch.set_num_threads(settings.threads)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is imported by now stays: no collection needs to look at it again
    with _listen(settings.host, settings.port) as listening:
        service = Service.open(settings.runs, settings.state, settings.limits, settings.candidates)
        hosts = (*LOCAL, settings.host, *settings.allow_hosts) if is_local(settings.host) else settings.allow_hosts or None
        app = create_app(service, key=key, hosts=hosts)
        # no time-out of uvicorn's own for requests: Guard and Batcher have theirs
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=10,
            lifespan="on",
        )  # fmt: skip
        server = uvicorn.Server(config)
        host, port = listening.getsockname()[:2]
        told = ", ".join(f"{task} by {artifact.config.model['name']}" for task, artifact in service.engine.by_task.items())
        asyncio.run(_serve(server, listening, service, f"http://{_shown(host)}:{port} answers {told}", ready))


async def _serve(
    server: uvicorn.Server, listening: socket.socket, service: Service, greeting: str, ready: Callable[[str], None]
) -> None:
    """Serve until a signal ends it."""
    tasks: set[asyncio.Task[None]] = set()

    async def greet() -> None:
        while not server.started:
            await asyncio.sleep(0.01)
        ready(greeting)

    async def reload() -> None:
        try:
            engine = await asyncio.to_thread(service.reload)
        except CorsarError as error:
            ready(f"the old model goes on: {error}")
        else:
            ready(f"the model is {engine.fingerprint} now")

    def start(task: Callable[[], Coroutine[None, None, None]]) -> None:
        tasks.add(made := asyncio.create_task(task()))
        made.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, start, reload)
    start(greet)
    await server.serve(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"there is no port {port}; choose one from 0 to 65535 with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        told = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot listen on {host}:{port}: {told}; choose another --host or --port") from None
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
