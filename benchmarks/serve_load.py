"""How long honest users of `unmask serve` wait while others are slow, broken or greedy.

Type: python benchmarks/serve_load.py VIDEO [--model model/] [--honest 20] [--others 180]

Starts a server and lets honest clients ask for an answer each, first alone, then among others:
slow ones that send a byte a second, broken ones that are silent, cut off or no HTTP, and greedy
ones, all at one address, that send videos, wrong passwords and large bodies as fast as they are
let. The others have addresses of their own, of loopback's 16 million on Linux. An honest client
that is told to come again does so when it is told to. Prints a table, and fails when an honest one
was not answered within five times the longest wait without the others, and half a minute.
"""

import argparse
import base64
import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PASSWORD = "of the load test"
GREEDY_ADDRESS = "127.2.0.1"


@dataclass
class Group:
    """What became of one kind of clients."""

    name: str
    clients: int
    answered_s: list[float] = field(default_factory=list)  # from the first try on
    statuses: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        """Return the group's row of the table."""
        waits = sorted(self.answered_s)
        times = "- | - | -"
        if waits:
            late = waits[min(len(waits) - 1, round(0.95 * len(waits)))]
            times = f"{statistics.median(waits):.1f} | {late:.1f} | {waits[-1]:.1f}"
        others = ", ".join(f"{count} x {status}" for status, count in self.statuses.most_common())
        return f"| {self.name} | {self.clients} | {len(waits)} | {times} | {others or '-'} |"


class Load:
    """A server under load."""

    def __init__(self, port: int, video: bytes) -> None:
        self.port, self.video = port, video
        self.ends = threading.Event()

    def connect(self, address: str) -> socket.socket:
        """Return a connection that comes from an address."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=900, source_address=(address, 0)
        )

    def post(self, address: str, body: bytes, word: str = PASSWORD) -> tuple[int, str, float]:
        """Send a body; return the status, why there is no answer, and when to come again."""
        client = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=900, source_address=(address, 0)
        )
        with contextlib.closing(client):
            secret = base64.b64encode(f"x:{word}".encode()).decode()
            client.request("POST", "/api/predict", body, {"Authorization": f"Basic {secret}"})
            answer = client.getresponse()
            said = json.loads(answer.read())
            return answer.status, said.get("error", ""), float(answer.headers["Retry-After"] or 0)

    # ------------------------------------------------------------ clients

    def be_honest(self, group: Group, address: str) -> None:
        """Ask for one answer, and come again when told to."""
        begun_s = time.monotonic()
        while True:
            try:
                status, error, retry_s = self.post(address, self.video)
            except OSError as problem:
                status, error, retry_s = 0, type(problem).__name__, 1.0
            if status == 200:
                group.answered_s.append(time.monotonic() - begun_s)
                return
            group.statuses[f"{status} {error}"] += 1
            time.sleep(max(retry_s, 0.2) * random.uniform(0.8, 1.2))

    def be_slow(self, group: Group, address: str) -> None:
        """Begin uploads, and send a byte a second."""
        while not self.ends.is_set():
            try:
                with self.connect(address) as connection:
                    connection.sendall(self._head(len(self.video)))
                    connection.settimeout(1.0)
                    group.statuses[self._drip(connection)] += 1
            except OSError as problem:
                group.statuses[type(problem).__name__] += 1
                self.ends.wait(1)

    def _drip(self, connection: socket.socket) -> str:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                connection.sendall(b"x")
                first = connection.recv(200).partition(b"\r\n")[0]
                return first.decode("latin-1")[9:12] or "closed"
        return "cut off at the end"

    def be_broken(self, group: Group, address: str) -> None:
        """Be silent, or send what is no HTTP, breaks off or is never read."""
        sent = itertools.cycle(
            [b"", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
             self._head(10**6) + self.video[:1000], b"POST /api/predict HTTP/1.1\r\n\r\n",
             self._head(100, "Content-Type: multipart/form-data; boundary=B") + b"--B\r\n" * 20]
        )  # fmt: skip
        while not self.ends.is_set():
            try:
                with self.connect(address) as connection:
                    connection.sendall(next(sent))
                    connection.settimeout(15)
                    first = connection.recv(200).partition(b"\r\n")[0]
                    group.statuses[first.decode("latin-1")[9:12] or "closed"] += 1
            except OSError as problem:
                group.statuses[type(problem).__name__] += 1
            self.ends.wait(0.5)

    def be_greedy(self, group: Group, address: str) -> None:
        """Ask for as much as can be had."""
        kinds: Iterator[Callable[[], tuple[int, str, float]]] = itertools.cycle(
            [
                lambda: self.post(address, self.video),
                lambda: self.post(address, self.video),
                lambda: self.post(address, b"x" * 1000),
                lambda: self.post(address, self.video, word="guessed"),
            ]
        )
        while not self.ends.is_set():
            begun_s = time.monotonic()
            try:
                status, error, _ = next(kinds)()
            except (OSError, ValueError, http.client.HTTPException) as problem:
                status, error = 0, type(problem).__name__
            if status == 200:
                group.answered_s.append(time.monotonic() - begun_s)
            else:
                group.statuses[f"{status} {error}".removeprefix("0 ")] += 1
            self.ends.wait(0.2)

    def _head(self, length: int, more: str = "Content-Type: video/mp4") -> bytes:
        secret = base64.b64encode(f"x:{PASSWORD}".encode()).decode()
        return (
            f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {secret}\r\n"
            f"{more}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()


def ask_all(load: Load, honest: int, others: int) -> list[Group]:
    """Let honest clients ask for an answer each among others; return what became of all."""
    load.ends.clear()
    groups = [Group("honest", honest)]
    waiting = []
    with ThreadPoolExecutor(honest + others + 3) as pool:
        kinds = (("slow", load.be_slow), ("broken", load.be_broken), ("greedy", load.be_greedy))
        for number, (name, be) in enumerate(kinds if others else ()):
            group = Group(name, others // 3)
            groups.append(group)
            for client in range(group.clients):
                address = f"127.1.{number}.{client + 1}"
                pool.submit(be, group, GREEDY_ADDRESS if name == "greedy" else address)
        if others:
            time.sleep(5)  # until they hold what they can
        for client in range(honest):
            waiting.append(pool.submit(load.be_honest, groups[0], f"127.3.0.{client + 1}"))
        for asked in waiting:
            asked.result()
        load.ends.set()
    return groups


@contextlib.contextmanager
def served(model: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """Start a server; yield its port and its log."""
    (folder / "password").write_text(PASSWORD)
    log = folder / "log"
    command = [
        sys.executable, "-m", "unmask", "serve", "--model", model, "--host", "0.0.0.0",
        "--port", "0", "--password-file", str(folder / "password"),
    ]  # fmt: skip
    with log.open("w") as words:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)},
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2]), log
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Print the table; return 1 if an honest client waited too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default=str(ROOT / "model"))
    parser.add_argument("--honest", type=int, default=20)
    parser.add_argument("--others", type=int, default=180)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, served(given.model, Path(made)) as (port, log):
        load = Load(port, given.video.read_bytes())
        load.post("127.3.0.1", load.video)  # the first one compiles
        alone = ask_all(load, given.honest, 0)
        among = ask_all(load, given.honest, given.others)
        lines = log.read_text().splitlines()
    print("| clients | how many | answered | median s | 95% s | longest s | not answered |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    alone[0].name = "honest, alone"
    for group in (*alone, *among):
        print(group.row())
    # Greedy ones get half of the places; who is told to come again waits besides.
    most_s = 5 * max(alone[0].answered_s) + 30
    longest_s = max(among[0].answered_s)
    print(f"\nlines in the server's log: {len(lines)}", *lines[:10], sep="\n  ")
    print(f"the longest honest wait: {longest_s:.1f} s; at most {most_s:.1f} s are promised")
    return int(longest_s > most_s)


if __name__ == "__main__":
    sys.exit(main())
