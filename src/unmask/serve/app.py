"""`unmask serve`: a REST endpoint and a page that answer videos, and keep nothing unless asked.

The page is Gradio's; without it the endpoint stands alone.
"""

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from unmask import extras
from unmask.answers.answers_file import json_line
from unmask.errors import DiskError, UnmaskError
from unmask.runtime.disk import writing
from unmask.runtime.plain_text import clean_name
from unmask.serve import allowed_folder, bare, forms, openapi
from unmask.serve.allowed_folder import AllowedFolder
from unmask.serve.connections import Crowd, Patience, Server, make_room
from unmask.serve.door import REQUEST_ID, Door
from unmask.serve.faults import Faults
from unmask.serve.inference import Part, Refusal, Refused, Result
from unmask.serve.intake import PROBLEM, Pace, UploadError, too_large
from unmask.serve.metrics import Metrics
from unmask.serve.queue import FullError, JobQueue, QueuedJob, State
from unmask.serve.request_filter import LOOPBACK, Page, RequestFilter, client_of, refuse
from unmask.serve.request_log import RequestLog
from unmask.serve.worker import LOOK_S

_STATUS = {
    Refused.NOT_A_VIDEO: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Refused.UNREADABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.CRASHED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.OUT_OF_MEMORY: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refused.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Refused.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Refused.FAILED: HTTPStatus.INSUFFICIENT_STORAGE,
    Refused.BROKEN: HTTPStatus.INTERNAL_SERVER_ERROR,
}


@dataclass(frozen=True)
class Rules:
    """Who may come in, by which names and ways, and what stays."""

    host: str  # where the server listens
    password: str | None
    keep: Path | None  # a folder for all videos and answers
    allowed_hosts: tuple[str, ...] = ()  # further names of the server, as a proxy has them
    root_path: str = ""  # before all addresses, where a proxy leaves it there
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks
    pace: Pace = field(default_factory=Pace)
    patience: Patience = field(default_factory=Patience)
    files: AllowedFolder | None = None  # whose files a request may name
    logs_requests: bool = False
    logs_names: bool = False  # of files, and addresses of clients


def run(listening: socket.socket, job_queue: JobQueue, rules: Rules) -> None:
    """Answer until the process is told to stop."""
    faults = Faults()
    door = build(job_queue, rules, faults)
    most, backlog = make_room(job_queue.limits.jobs + job_queue.limits.waiting)
    # On loopback alone everybody has one address.
    most_each = most if rules.host in LOOPBACK else -(-most // 2)
    crowd = Crowd(most, most_each, rules.patience, door.trusts)
    server = Server(door, crowd, faults, backlog=backlog, end=job_queue.end)
    server.run(sockets=[listening])


def build(job_queue: JobQueue, rules: Rules, faults: Faults) -> Door:
    """Return the application: request filter, endpoints, and the page on all other addresses."""
    app = FastAPI(title="unmask", docs_url=None, redoc_url=None, openapi_url=None)
    job_queue.observer = metrics = Metrics(job_queue)
    request_log = None
    if rules.logs_requests:
        assert job_queue.run_info is not None
        request_log = RequestLog(job_queue.run_info, has_names=rules.logs_names)
        job_queue.on_answer = request_log.answered

    @app.exception_handler(UploadError)
    async def say_upload(_: Request, error: UploadError) -> JSONResponse:
        return refuse(error.status, error.kind, str(error))

    @app.exception_handler(FullError)
    async def say_full(_: Request, error: FullError) -> JSONResponse:
        refusal = refuse(HTTPStatus.TOO_MANY_REQUESTS, "full", str(error))
        refusal.headers["Retry-After"] = str(error.retry_s)
        return refusal

    @app.exception_handler(DiskError)
    async def say_disk(_: Request, error: DiskError) -> JSONResponse:
        return _refuse(Refusal(Refused.FAILED, str(error)))

    @app.get("/api/health")
    async def health() -> JSONResponse:
        assert job_queue.run_info is not None
        about = {"model": job_queue.run_info.model, "version": job_queue.run_info.version}
        return _readiness(job_queue, about)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"alive": True}, headers=_FRESH)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        return _readiness(job_queue, {})

    @app.get("/metrics")
    async def read_metrics(request: Request) -> Response:
        content, media_type = metrics.render(request.headers.get("accept", ""))
        return Response(content, headers={**_FRESH, "Content-Type": media_type})

    @app.get("/openapi.json")
    async def read_openapi() -> JSONResponse:
        assert job_queue.run_info is not None
        has_password = rules.password is not None
        return JSONResponse(
            openapi.describe(
                job_queue.limits,
                job_queue.run_info,
                has_password=has_password,
                has_files=rules.files is not None,
            )
        )

    @app.post("/api/predict")
    async def predict(request: Request) -> Response:
        outcome = await _answer(job_queue, request, rules, wants_report=False)
        if isinstance(outcome, Refusal):
            return _refuse(outcome)
        return Response(json_line(outcome.row), media_type="application/json", headers=_FRESH)

    @app.post("/api/report")
    async def report(request: Request) -> Response:
        outcome = await _answer(job_queue, request, rules, wants_report=True)
        if isinstance(outcome, Refusal):
            return _refuse(outcome)
        return HTMLResponse(outcome.page, headers=_FRESH)

    @app.post("/gradio_api/upload")
    async def upload(request: Request) -> JSONResponse:
        """Take a file from the page instead of Gradio, which would use the name that it is told.

        The reply is a token, or a message to show: without one the page would only say "Error".
        """
        try:
            job = _admit(job_queue, request)
            try:
                await _receive(request, job, job_queue, None)
            except BaseException as error:
                job_queue.drop(job)
                if isinstance(error, UploadError) and error.is_slow:
                    job_queue.penalise(job.client)
                raise
        except UnmaskError as error:
            return JSONResponse([PROBLEM + str(error)])
        job.enter(State.HERE)
        return JSONResponse([job.token])

    gate = RequestFilter(
        app, host=rules.host, password=rules.password, allowed=rules.allowed_hosts,
        max_bytes=job_queue.limits.max_bytes, page=_mount(app, job_queue, rules), pace=rules.pace,
    )  # fmt: skip
    return Door(
        gate, faults, root_path=rules.root_path, trusted=rules.trusted_proxies,
        requested=metrics.requested, request_log=request_log,
    )  # fmt: skip


def has_page() -> bool:
    """Say whether the page can be shown: Gradio comes with the extra `serve`."""
    return not extras.missing(["serve"])


def load_page() -> None:
    """Import Gradio now, where there is one: that takes seconds."""
    if has_page():
        from unmask.serve import page  # noqa: F401


def _mount(app: FastAPI, job_queue: JobQueue, rules: Rules) -> Page | None:
    """Put the page on all addresses that are free; return what it asks."""
    if not has_page():
        bare.mount(app)
        return None
    from unmask.serve import page

    return page.mount(
        app,
        job_queue,
        keeps=rules.keep is not None,
        keep=lambda job, result: keep(rules, job, result),
    )


_FRESH = {"Cache-Control": "no-store"}


def _readiness(job_queue: JobQueue, about: dict[str, str]) -> JSONResponse:
    ready = job_queue.is_ready  # asked once: the two must agree
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"ready": ready, **about}, status, headers=_FRESH)


def _refuse(refusal: Refusal) -> JSONResponse:
    return JSONResponse(
        {"error": str(refusal.kind), "detail": refusal.words}, _STATUS[refusal.kind]
    )


def _admit(job_queue: JobQueue, request: Request) -> QueuedJob:
    """Return a new job for the video that a request brings; raises what the queue does."""
    job = job_queue.admit(client_of(request.scope))
    job.request_id = request.scope.get(REQUEST_ID, "")
    return job


async def _answer(
    job_queue: JobQueue, request: Request, rules: Rules, *, wants_report: bool
) -> Result | Refusal:
    """Return what is to be said of the video that a request brings; whoever hangs up stops it."""
    job = _admit(job_queue, request)
    try:
        await _receive(request, job, job_queue, rules.files)
        job.wants_report = wants_report
        job_queue.submit(job)
        while job.outcome is None:
            if job_queue.is_ending:
                return Refusal(Refused.CANCELLED, "The server is ending. Come again later.")
            if await request.is_disconnected():
                return Refusal(Refused.CANCELLED, "Cancelled.")
            await asyncio.sleep(LOOK_S)
        if isinstance(job.outcome, Result):
            await asyncio.to_thread(keep, rules, job, job.outcome)
        return job.outcome
    except UploadError as error:
        if error.is_slow:
            job_queue.penalise(job.client)
        raise
    finally:
        job_queue.drop(job)


def keep(rules: Rules, job: QueuedJob, result: Result) -> None:
    """Put video and answer into the folder for them, if there is one.

    Raises:
        DiskError: the disk takes no more.
    """
    if rules.keep is None:
        return
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = rules.keep / f"{now}-{result.row['sha256']:.12}-{job.token:.6}"
    with writing(folder):
        folder.mkdir(parents=True)
        shutil.copyfile(job.video, folder / "video")
        (folder / "answer.json").write_bytes(json_line(result.row))
        if result.page:
            (folder / "report.html").write_text(result.page, encoding="utf-8")


# ---------------------------------------------------------------- uploads


async def _receive(
    request: Request, job: QueuedJob, job_queue: JobQueue, files: AllowedFolder | None
) -> None:
    """Write the file of a request to where the job wants it.

    It is a form's, the body itself, or one of the files that may be named. The gate has limited
    the body in size and time.

    Raises:
        UploadError: there is no file, or an empty one; or the gate raises it.
        DiskError: the disk takes no more.
    """
    kind = request.headers.get("content-type", "")
    chunks = _chunks(request, job)
    try:
        with writing(job.video), job.video.open("wb") as file:
            if files and allowed_folder.is_link(kind):
                path = await allowed_folder.read_path(chunks)
                job.name = clean_name(path)
                await files.copy(path, file, job_queue.limits.max_bytes, lambda: _check_place(job))
            elif forms.is_form(kind):
                job.name = clean_name(await forms.receive(kind, chunks, file))
            else:
                job.name = clean_name(request.query_params.get("name", ""))
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
    except ClientDisconnect as error:
        raise UploadError(
            "The upload was cancelled.", status=HTTPStatus.BAD_REQUEST, kind="cancelled"
        ) from error
    _check_place(job)
    size = job.video.stat().st_size
    if size > job_queue.limits.max_bytes:
        raise too_large(job_queue.limits.max_bytes)
    if not size:
        raise UploadError(
            "Asked for an answer on a file; found an empty one. Send a video.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, kind="not_a_video",
        )  # fmt: skip
    job_queue.spent(job, Part.UPLOAD, time.monotonic() - job.since_s)


async def _chunks(request: Request, job: QueuedJob) -> AsyncGenerator[bytes, None]:
    """Yield a request's body; raise once its place was given to somebody faster."""
    async for chunk in request.stream():
        _check_place(job)
        yield chunk


def _check_place(job: QueuedJob) -> None:
    if job.is_dropped:
        raise UploadError(
            "The upload was slow while all places were taken, and lost its own. Send it later, "
            "over a faster line or as a smaller file.",
            status=HTTPStatus.REQUEST_TIMEOUT, kind="too_slow",
        )  # fmt: skip
