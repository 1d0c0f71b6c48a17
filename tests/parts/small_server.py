"""A real server on loopback within this process, without a model: what arrives waits for ever."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import wait_until

from unmask.answers.answers_file import RunInfo
from unmask.serve import app
from unmask.serve.connections import Crowd, Patience, Server
from unmask.serve.door import Door
from unmask.serve.faults import Faults
from unmask.serve.inference import Settings
from unmask.serve.queue import JobQueue, Limits
from unmask.serve.request_filter import LOOPBACK


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Return what a program reads of a refusal."""
        return str(json.loads(self.body)["error"])


@dataclass(frozen=True)
class SmallServer:
    """A server that runs, and its job queue."""

    port: int
    job_queue: JobQueue
    faults: Faults
    crowd: Crowd
    server: Server

    def break_all(self) -> None:
        """Break all connections off, as a network does that goes down."""
        for connection in list(self.server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)  # type: ignore[union-attr]

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Return a connection from an address of this machine."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=30, source_address=(source, 0)
        )

    def ask(self, request: bytes, *, source: str = "127.0.0.1") -> Answer:
        """Send bytes, and return what comes back until the connection is closed."""
        with self.connect(source) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            return read_answer(connection)

    def get(self, path: str, *, source: str = "127.0.0.1", **headers: str) -> Answer:
        """Ask for a path."""
        return self.ask(request("GET", path, **headers), source=source)

    def post(self, path: str, body: bytes, *, source: str = "127.0.0.1", **headers: str) -> Answer:
        """Send a body to a path."""
        return self.ask(request("POST", path, body, **headers), source=source)


def request(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """Return a request; `Content_Type` stands for Content-Type."""
    named = {"Host": "127.0.0.1", "Connection": "close"}
    if body is not None:
        named["Content-Length"] = str(len(body))
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {named[name]}" for name in named), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def read_answer(connection: socket.socket) -> Answer:
    """Return what a server sends until it closes the connection."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Answer(int(first.split(" ")[1]) if first else 0, headers, body)


@contextmanager
def small_server(
    folder: Path,
    *,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    most: int = 200,
    backlog: int = 50,
    patience: Patience | None = None,
    **rules: Any,
) -> Iterator[SmallServer]:
    """Serve, with a job queue that answers nothing, until the block ends."""
    limits = limits or Limits(100_000, 60, 60, waiting=3, jobs=1)
    job_queue = JobQueue(folder, limits, Settings(folder, folder, None, ()), lambda: None)
    job_queue.run_info = RunInfo("no model", "0")
    faults = Faults()
    named = app.Rules(host, rules.pop("password", None), rules.pop("keep", None), **rules)

    async def build() -> Door:
        return app.build(job_queue, named, faults)

    with ThreadPoolExecutor(1) as beside:  # else Gradio makes a loop that it never closes
        door = beside.submit(asyncio.run, build()).result()
    most_each = most if host in LOOPBACK else -(-most // 2)
    crowd = Crowd(most, most_each, patience or Patience(), door.trusts)
    server = Server(door, crowd, faults, backlog=backlog, end=job_queue.end)
    with socket.create_server(("127.0.0.1" if host in LOOPBACK else "0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield SmallServer(port, job_queue, faults, crowd, server)
        finally:
            job_queue.end()
            server.should_exit = True
            thread.join()
