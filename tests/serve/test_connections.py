"""Connections that ask nothing, ask slowly, or don't read."""

import asyncio
import logging
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from small_server import SmallServer, read_answer, request, small_server
from waiting import wait_until

from unmask.serve.connections import Crowd, Patience, Server, make_room
from unmask.serve.faults import Faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Gradio's own, whose loops and sockets these are
]
PATIENCE = Patience(request_s=1.0, idle_s=1.0, answer_s=1.0, answer_bytes=100)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    with small_server(
        tmp_path_factory.mktemp("serve"), most=20, backlog=10, patience=PATIENCE
    ) as started:
        yield started


def is_closed_within(connection: socket.socket, most_s: float) -> bool:
    connection.settimeout(most_s)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_a_connection_owes_a_request(server: SmallServer) -> None:
    silent, begun, dripping = (server.connect() for _ in range(3))
    with silent, begun, dripping:
        begun.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        end_s = time.monotonic() + 10
        dripping.settimeout(0.1)
        is_open = True
        while is_open and time.monotonic() < end_s:  # a byte now and then buys no time
            try:
                dripping.sendall(b"G")
                is_open = bool(dripping.recv(1))
            except TimeoutError:
                pass
            except OSError:
                is_open = False
        assert not is_open
        assert is_closed_within(silent, 5)
        assert is_closed_within(begun, 5)


def test_so_it_does_after_an_answer(server: SmallServer) -> None:
    with server.connect() as idle, server.connect() as dripping:
        for connection in (idle, dripping):
            connection.sendall(request("GET", "/robots.txt", Connection="keep-alive"))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        dripping.sendall(b"G")
        assert is_closed_within(idle, 5)
        assert is_closed_within(dripping, 5)


def test_a_body_that_nobody_asked_for_ends_too(server: SmallServer) -> None:
    wait_until(lambda: not server.crowd.counts)
    with server.connect() as connection:
        connection.sendall(request("POST", "/nowhere", Content_Length="1000000"))
        wait_until(lambda: server.crowd.counts)

        def is_let_go() -> bool:
            with suppress(OSError):
                connection.sendall(b"x")
            return not server.crowd.counts

        wait_until(is_let_go, 10)


def test_a_client_has_to_read(tmp_path: Path) -> None:
    with small_server(tmp_path, patience=PATIENCE) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(0.3)
        with suppress(OSError):  # it takes no more once its answers, of 60 kB each, are not read
            for _ in range(400):
                connection.sendall(request("GET", "/", Connection="keep-alive"))
        wait_until(lambda: not server.crowd.counts, 15)
        assert server.get("/robots.txt").status == 200


def test_who_is_silent_makes_room_for_who_asks(server: SmallServer) -> None:
    silent = [server.connect() for _ in range(60)]
    try:
        assert server.get("/robots.txt").status == 200
    finally:
        for connection in silent:
            connection.close()


def test_where_all_are_busy_the_next_is_told_so(tmp_path: Path) -> None:
    with small_server(tmp_path, most=3, backlog=2) as server:
        begun = request("POST", "/api/predict", Content_Length="9") + b"begun"
        busy = [server.connect() for _ in range(3)]
        for connection in busy:
            connection.sendall(begun)
        wait_until(lambda: len(server.job_queue._jobs) == 3)
        with server.connect() as late:
            answer = read_answer(late)
        assert (answer.status, answer.kind) == (503, "busy")
        for connection in busy:
            connection.close()
        wait_until(lambda: not server.job_queue._jobs)
        assert server.get("/robots.txt").status == 200


def test_one_address_does_not_take_all_connections(tmp_path: Path) -> None:
    with small_server(tmp_path, host="0.0.0.0", most=6, backlog=2) as server:
        begun = request("POST", "/api/predict", Content_Length="9") + b"begun"
        held = [server.connect("127.0.0.2") for _ in range(3)]
        for connection in held:
            connection.sendall(begun)
        wait_until(lambda: len(server.job_queue._jobs) == 3)
        with server.connect("127.0.0.2") as late:
            assert read_answer(late).kind == "busy"
        assert server.get("/robots.txt", source="127.0.0.3").status == 200
        for connection in held:
            connection.close()


def test_signs_of_life_keep_nobody_out(tmp_path: Path) -> None:
    with small_server(tmp_path, most=4, backlog=2) as server:
        beating = [server.connect() for _ in range(8)]
        for number, connection in enumerate(beating):
            connection.sendall(request("GET", f"/gradio_api/heartbeat/page{number}"))
        with beating[-1]:
            assert beating[-1].recv(12) == b"HTTP/1.1 200"
            assert server.get("/robots.txt").status == 200
        for connection in beating[:-1]:
            connection.close()


def test_a_full_table_of_files_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd(1, 1, PATIENCE, lambda _: False)
    loop = asyncio.new_event_loop()
    saying = Server(None, crowd, Faults(), backlog=1, end=lambda: None)  # type: ignore[arg-type]
    loop.set_exception_handler(saying._say)
    caplog.set_level(logging.ERROR)
    for _ in range(2048):  # as asyncio does for each place of the backlog
        loop.call_exception_handler(
            {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too")}
        )
    loop.close()
    [record] = caplog.records
    assert record.getMessage().startswith("socket.accept() out of system resource: OSError")


def test_connections_leave_descriptors_for_files() -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), "
        "int(sys.argv[2]))); from unmask.serve.connections import make_room; "
        "print(*make_room(9), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    for soft, hard, expected in (
        (96, 96, "19 19 96 96"),  # 96 - 40 - 2 x 9 = 38
        (64, 4096, "872 128 4096 4096"),
        (256, 1024, "838 128 1024 1024"),  # 1024 - 58 = 966
    ):
        command = [sys.executable, "-c", script, str(soft), str(hard)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
    assert make_room(9)[0] >= 8
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 64
