"""The page of `unmask serve`: drop a video, see where it is in the queue, read the answer.

Gradio is given words to show and tokens to hand back: no file and no path passes through it.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from html import escape
from importlib.metadata import version
from typing import Any

import gradio as gr
import httpx
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from gradio.queueing import Queue

from unmask.errors import UnmaskError
from unmask.serve.draw import STYLE, draw_faces, draw_verdict
from unmask.serve.inference import Refusal, Result
from unmask.serve.intake import PROBLEM
from unmask.serve.queue import JobQueue, Limits, QueuedJob, State
from unmask.serve.request_filter import Page
from unmask.serve.watch import WATCH
from unmask.serve.worker import LOOK_S

Keep = Callable[[QueuedJob, Result], None]

_MOST_ASKED = 8  # events of a session that are under way or unfetched; a page has three at most
_MOST_SESSIONS = 256  # whose answers are kept until they fetch them

# Where a page keeps what the two buttons save: nothing has to stay on the server for them.
_SAVE = """
() => {
  const element = document.querySelector("%s");
  const text = element.%s;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "%s"}));
  link.download = "%s";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
"""
_SYSTEM_FONTS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica",
    "Arial",
    "sans-serif",
)
_MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")


def mount(app: FastAPI, job_queue: JobQueue, *, keeps: bool, keep: Keep) -> Page:
    """Put the page on all addresses that the application has not taken; return what it asks."""
    written: list[str] = []

    @app.get("/")
    async def index() -> HTMLResponse:
        """Answer with Gradio's page, which is the same for everybody and is written once."""
        if not written:
            transport = httpx.ASGITransport(app.routes[-1].app)  # type: ignore[attr-defined]
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asked:
                written.append(_relative((await asked.get("/")).raise_for_status().text))
        return HTMLResponse(written[0])

    blocks = _build(job_queue, keeps=keeps, keep=keep)
    gr.mount_gradio_app(
        app, blocks, path="/", allowed_paths=[],
        footer_links=[], run_history=False, show_error=True, ssr_mode=False, mcp_server=False,
        pwa=False, enable_monitoring=False, css=STYLE,
        theme=gr.themes.Default(
            primary_hue="blue", neutral_hue="slate", radius_size="md",
            font=_SYSTEM_FONTS, font_mono=_MONO_FONTS,
        ),
    )  # fmt: skip
    asked = {
        number: len(function.inputs)
        for number, function in blocks.fns.items()
        if function.fn is not None and all(event != "unload" for _, event in function.targets)
    }
    queue = blocks._queue
    return Page(
        asked,
        lambda session: session in queue.pending_messages_per_session,
        lambda session: _is_full(queue, job_queue, session),
    )


def _is_full(queue: Queue, job_queue: JobQueue, session: str) -> bool:
    """Say whether a session may ask no more; forget the oldest sessions if there are too many.

    Gradio keeps what was answered until it is fetched, however much that is, of each session that
    ever asked. A page fetches at once, so the oldest have left, unless a video of theirs is here.
    """
    asked = queue.pending_event_ids_session
    for old in list(asked)[: max(0, len(asked) - _MOST_SESSIONS)]:
        if not job_queue.holds_any_of(old):
            for event in asked.pop(old):
                queue.event_ids_to_events.pop(event, None)
    return len(asked.get(session, ())) >= _MOST_ASKED


def _relative(page: str) -> str:
    """Return Gradio's page so that it works below any path, and says what fails.

    Gradio writes the address that the server was asked by into it, which behind a proxy is not the
    browser's: what the page asks for is found beside the page instead.
    """
    page = page.replace('href="/manifest.json"', 'href="./manifest.json"')
    page, changed = re.subn(r'const root = "[^"]*";', 'const root = ".";', page)
    before, end, after = page.partition("</head>")
    assert changed, "Gradio's page has no addresses from the root any more"
    assert end, "Gradio's page has no head any more"
    assert "window.gradio_config" in before, "Gradio's page no longer says where its server is"
    return f"{before}<script>{WATCH}</script>\n\t{end}{after}"


def _build(job_queue: JobQueue, *, keeps: bool, keep: Keep) -> Any:
    told = gr.Progress()

    async def answer(token: str, request: gr.Request, progress: Any = told) -> Any:
        if token.startswith(PROBLEM):
            return _failure(token.removeprefix(PROBLEM))
        job = job_queue.find(token)
        if job is None:
            return _failure("The upload is gone. Please choose the file once more.")
        job.owner = request.session_hash
        job_queue.submit(job)
        try:
            outcome = await _wait(job_queue, job, progress)
            if isinstance(outcome, Result):
                await asyncio.to_thread(keep, job, outcome)
        except UnmaskError as error:
            return _failure(str(error))
        finally:
            job_queue.drop(job)
        return _failure(outcome.words) if isinstance(outcome, Refusal) else _success(outcome)

    def begin() -> list[Any]:
        note = _note("Your video is being answered.")
        return [gr.File(visible=False), note, gr.Button(visible=True), *_hidden(3)]

    def stop(request: gr.Request) -> None:
        if request.session_hash:
            job_queue.drop_all_of(request.session_hash)

    page = gr.Blocks(title="unmask: is this face real?", analytics_enabled=False)
    head = _head(job_queue.limits, keeps=keeps)
    page.app_id = _app_id(head)
    with page:
        gr.HTML(head, padding=False)
        clip = gr.File(label="Video: drop it here, or choose a file", elem_id="clip", height=160)
        token = gr.Textbox(visible="hidden", elem_id="token")
        status = gr.HTML(elem_id="status", visible=False)
        cancel = gr.Button("Cancel", visible=False, elem_id="cancel", size="sm")
        result = gr.HTML(elem_id="result", visible=False, padding=False)
        with gr.Row(visible=False, elem_id="saves") as saves:
            page_button = gr.Button("Save the report (HTML)", elem_id="save-report")
            json_button = gr.Button("Save the answer (JSON)", elem_id="save-json")
        report = gr.HTML(elem_id="report", visible=False, padding=False)

        shown = [clip, status, cancel, result, saves, report]
        quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
        # Only words of the browser's file go on: where it is here, a token stands for its path.
        sent = clip.upload(None, clip, token, js="(file) => file ? file.path : ''", **quiet)
        sent.then(begin, None, shown, **quiet).then(
            answer, token, shown, api_visibility="private", concurrency_limit=None,
            show_progress="full", show_progress_on=[status],
        )  # fmt: skip
        cancel.click(stop, **quiet)
        page.unload(stop)
        page_button.click(
            None,
            js=_SAVE % ("#report iframe", "srcdoc", "text/html", "unmask-report.html"),
            **quiet,
        )
        json_button.click(
            None,
            js=_SAVE % ("#result .row", "textContent", "application/json", "unmask-answer.json"),
            **quiet,
        )
    return page


def _app_id(head: str) -> int:
    """Return Gradio's number of this page: the same after a restart, and on several servers.

    Gradio's is a random one. A page that lost its connection and finds another number is drawn anew
    at once, and what it had just said of the failure is gone.
    """
    digest = hashlib.sha256(f"{version('unmask')} {gr.__version__} {head}".encode()).digest()
    return int.from_bytes(digest[:6], "big")  # a whole number in JavaScript, too


async def _wait(job_queue: JobQueue, job: QueuedJob, progress: Any) -> Result | Refusal:
    """Return the job's outcome; say meanwhile what is being done."""
    while job.outcome is None:
        if job.state is State.WAITING:
            progress(0.0, desc=_waiting(job_queue.count_before(job)))
        else:
            progress(job.step.done, desc=job.step.words)
        await asyncio.sleep(2 * LOOK_S)
    return job.outcome


def _waiting(before: int) -> str:
    if not before:
        return "You are next"
    return f"Waiting: {before} video{'s are' if before > 1 else ' is'} before yours"


# ---------------------------------------------------------------- what the page shows


def _hidden(count: int) -> list[Any]:
    return [gr.update(visible=False) for _ in range(count)]


def _note(words: str) -> Any:
    return gr.HTML(f'<p class="note" role="status">{escape(words)}</p>', visible=True)


def _failure(words: str) -> list[Any]:
    told = gr.HTML(f'<p class="problem" role="alert">{escape(words)}</p>', visible=True)
    return [gr.File(None, visible=True), told, *_hidden(4)]


def _success(result: Result) -> list[Any]:
    row = json.dumps(result.row, indent=2)
    shown = (
        f"{draw_verdict(result)}{draw_faces(result.row)}"
        f'<details><summary>The answer as JSON</summary><pre class="row" tabindex="0">{escape(row)}'
        "</pre></details>"
    )
    frame = (
        '<h2>The full report</h2><iframe title="The full report" sandbox="" '
        f'srcdoc="{escape(result.page or "")}"></iframe>'
    )
    told = [gr.HTML(shown, visible=True), gr.Row(visible=True), gr.HTML(frame, visible=True)]
    return [gr.File(None, visible=True), *_hidden(2), *told]


def _head(limits: Limits, *, keeps: bool) -> str:
    kept = (
        "<strong>Whoever runs this server keeps your video and its answer.</strong>"
        if keeps
        else "Your video is deleted as soon as it is answered; nothing is kept here."
    )
    return f"""
<header>
  <h1>Is this face real?</h1>
  <p>Drop a video. Each face in it is followed, and scored for traces of a deepfake.</p>
  <ul class="facts">
    <li><strong>Evidence, not proof.</strong> A high score does not show that somebody forged a
      video, a low one does not show that it is genuine.</li>
    <li>Up to {limits.max_bytes / 1e6:g} MB and {_minutes(limits.max_video_s)} of video; an answer
      takes {_minutes(limits.timeout_s)} at most. Sound is not listened to.</li>
    <li>{kept}</li>
  </ul>
</header>"""


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} seconds"
    return f"{seconds / 60:.0f} minutes"
