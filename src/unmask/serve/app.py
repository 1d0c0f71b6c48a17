"""`unmask serve`: a page and a REST endpoint that answer videos, and keep nothing unless asked."""

import asyncio
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from unmask.answers.answers_file import json_line
from unmask.errors import DiskError, UnmaskError
from unmask.runtime.disk import writing
from unmask.runtime.plain_text import clean_name
from unmask.serve import page
from unmask.serve.inference import Refusal, Refused, Result
from unmask.serve.queue import LOOK_S, Desk, FullError, Limits, State, Ticket
from unmask.serve.request_filter import Gate

_STALL_S = 30.0  # without a byte of an upload
_DRAIN_S, _DRAIN_BYTES = 2.0, 2**24  # many clients read an answer only once they have sent all
_FORM_BYTES = 65_536  # what a form holds beside its file
_SHUTDOWN_S = 3  # for requests that are under way when the server is told to stop

_STATUS = {
    Refused.NOT_A_VIDEO: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Refused.UNREADABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.CRASHED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Refused.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Refused.FAILED: HTTPStatus.INSUFFICIENT_STORAGE,
    Refused.BROKEN: HTTPStatus.INTERNAL_SERVER_ERROR,
}


@dataclass(frozen=True)
class Rules:
    """Who may come in, and what stays."""

    host: str  # where the server listens
    password: str | None
    keep: Path | None  # a folder for all videos and answers


class UploadError(UnmaskError):
    """What was sent can't be taken; status and kind are what a program reads of it."""

    def __init__(self, message: str, *, status: HTTPStatus, kind: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


def run(listening: socket.socket, desk: Desk, rules: Rules) -> None:
    """Answer until the process is told to stop."""
    config = uvicorn.Config(
        build(desk, rules), log_level="error", server_header=False, timeout_keep_alive=10,
        log_config=None,  # its words go where ours go, as plain text
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )  # fmt: skip
    _Server(config, desk).run(sockets=[listening])


class _Server(uvicorn.Server):
    """One that gives up what is under way at once: else uvicorn cuts it off without an answer."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, on a signal."""
        self._desk.end()
        super().handle_exit(sig, frame)


def build(desk: Desk, rules: Rules) -> FastAPI:
    """Return the application: the endpoints, and the page on all that they leave."""
    app = FastAPI(title="unmask", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(UploadError)
    async def say_upload(_: Request, error: UploadError) -> JSONResponse:
        # Closed: a client that has more to send would send all of it first.
        return JSONResponse(
            {"error": error.kind, "detail": str(error)}, error.status, {"Connection": "close"}
        )

    @app.exception_handler(FullError)
    async def say_full(_: Request, error: FullError) -> JSONResponse:
        return JSONResponse(
            {"error": "full", "detail": str(error)}, HTTPStatus.TOO_MANY_REQUESTS,
            {"Retry-After": str(error.retry_s), "Connection": "close"},
        )  # fmt: skip

    @app.exception_handler(DiskError)
    async def say_disk(_: Request, error: DiskError) -> JSONResponse:
        return _refuse(Refusal(Refused.FAILED, str(error)))

    @app.get("/api/health")
    async def health() -> JSONResponse:
        assert desk.maker is not None
        return JSONResponse(
            {"ready": desk.is_ready, "model": desk.maker.model, "version": desk.maker.version},
            HTTPStatus.OK if desk.is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    @app.post("/api/predict")
    async def predict(request: Request) -> Response:
        outcome = await _answer(desk, request, rules, wants_report=False)
        if isinstance(outcome, Refusal):
            return _refuse(outcome)
        return Response(json_line(outcome.row), media_type="application/json", headers=_FRESH)

    @app.post("/api/report")
    async def report(request: Request) -> Response:
        outcome = await _answer(desk, request, rules, wants_report=True)
        return _refuse(outcome) if isinstance(outcome, Refusal) else HTMLResponse(outcome.page)

    @app.post("/gradio_api/upload")
    async def upload(request: Request) -> JSONResponse:
        """Take a file from the page, in Gradio's place: its own writes by the name it is told.

        The page hands on what it gets: a token, or words to show, as it only shows "Error" itself.
        """
        try:
            ticket = desk.admit()
            try:
                await _receive(request, ticket, desk.limits)
            except BaseException:
                desk.drop(ticket)
                raise
        except UnmaskError as error:
            return JSONResponse([page.PROBLEM + str(error)])
        ticket.enter(State.HERE)
        return JSONResponse([ticket.token])

    page.mount(
        app,
        desk,
        keeps=rules.keep is not None,
        keep=lambda ticket, result: keep(rules, ticket, result),
    )
    app.add_middleware(Gate, host=rules.host, password=rules.password)
    return app


_FRESH = {"Cache-Control": "no-store"}


def _refuse(refusal: Refusal) -> JSONResponse:
    return JSONResponse(
        {"error": str(refusal.kind), "detail": refusal.words}, _STATUS[refusal.kind]
    )


async def _answer(
    desk: Desk, request: Request, rules: Rules, *, wants_report: bool
) -> Result | Refusal:
    """Return what is to be said of the video that a request brings; whoever hangs up stops it."""
    ticket = desk.admit()
    try:
        await _receive(request, ticket, desk.limits)
        ticket.wants_report = wants_report
        desk.submit(ticket)
        while ticket.outcome is None:
            if desk.is_ending:
                return Refusal(Refused.CANCELLED, "The server is ending. Come again later.")
            if await request.is_disconnected():
                return Refusal(Refused.CANCELLED, "Cancelled.")
            await asyncio.sleep(LOOK_S)
        if isinstance(ticket.outcome, Result):
            await asyncio.to_thread(keep, rules, ticket, ticket.outcome)
        return ticket.outcome
    finally:
        desk.drop(ticket)


def keep(rules: Rules, ticket: Ticket, result: Result) -> None:
    """Put video and answer into the folder for them, if there is one.

    Raises:
        DiskError: the disk takes no more.
    """
    if rules.keep is None:
        return
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = rules.keep / f"{now}-{result.row['sha256']:.12}-{ticket.token:.6}"
    with writing(folder):
        folder.mkdir(parents=True)
        shutil.copyfile(ticket.video, folder / "video")
        (folder / "answer.json").write_bytes(json_line(result.row))
        if result.page:
            (folder / "report.html").write_text(result.page, encoding="utf-8")


# ---------------------------------------------------------------- uploads


async def _receive(request: Request, ticket: Ticket, limits: Limits) -> None:
    """Write the file of a request, a form's or the body itself, to where the ticket wants it.

    Raises:
        UploadError: it is too large, which shows while it arrives; there is none; it stalls.
        DiskError: the disk takes no more.
    """
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    most = limits.max_bytes + (_FORM_BYTES if is_form else 0)
    try:
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(limits)
        chunks = _limited(request, most, limits)
        with writing(ticket.video):
            if is_form:
                await _receive_form(request, chunks, ticket)
            else:
                ticket.name = clean_name(request.query_params.get("name", ""))
                with ticket.video.open("wb") as file:
                    async for chunk in chunks:
                        file.write(chunk)
        if ticket.video.stat().st_size > limits.max_bytes:
            raise _too_large(limits)
    except UploadError:
        if "expect" not in request.headers:
            await _drain(request)
        raise
    except ClientDisconnect as error:
        raise UploadError(
            "The upload was cancelled.", status=HTTPStatus.BAD_REQUEST, kind="cancelled"
        ) from error
    if not ticket.video.stat().st_size:
        raise UploadError(
            "Asked for an answer on a file; found an empty one. Send a video.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, kind="not_a_video",
        )  # fmt: skip


async def _receive_form(
    request: Request, chunks: AsyncGenerator[bytes, None], ticket: Ticket
) -> None:
    try:
        form = await MultiPartParser(
            request.headers,
            chunks,
            max_files=1,
            max_fields=8,
        ).parse()
    except MultiPartException as error:
        raise _no_file(error.message) from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise _no_file("a form without a file")
        ticket.name = clean_name(files[0].filename or "")
        with ticket.video.open("wb") as file:
            await asyncio.to_thread(shutil.copyfileobj, files[0].file, file)
    finally:
        await form.close()


async def _limited(request: Request, most: int, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the request's body, until it is too large or stalls."""
    arrived = 0
    stream = aiter(request.stream())
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), _STALL_S)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UploadError(
                f"The upload stood still for {_STALL_S:g} s. Send it once more.",
                status=HTTPStatus.REQUEST_TIMEOUT, kind="stalled",
            ) from error  # fmt: skip
        arrived += len(chunk)
        if arrived > most:
            raise _too_large(limits)
        yield chunk


async def _drain(request: Request) -> None:
    """Read on for a moment and keep nothing: else the client may miss why it was refused."""
    drained = 0
    with suppress(ClientDisconnect, TimeoutError, RuntimeError):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in request.stream():
                drained += len(chunk)
                if drained > _DRAIN_BYTES:
                    return


def _too_large(limits: Limits) -> UploadError:
    return UploadError(
        f"The file is larger than the {limits.max_bytes / 1e6:g} MB that are taken here. Cut out "
        "the part that matters, or compress it less finely.",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, kind="too_large",
    )  # fmt: skip


def _no_file(found: str) -> UploadError:
    return UploadError(
        f"Asked for a form with one file, or a body that is the video; found {found}. Send it as "
        "`curl -F file=@clip.mp4` does.",
        status=HTTPStatus.BAD_REQUEST, kind="no_file",
    )  # fmt: skip
