"""What Prometheus reads at /metrics: numbers alone, whose labels are words of this program.

No label holds a file's name, an address or anything else that somebody sent: each value is one of a
few that stand in the source, and whatever is none of them counts as "other".
"""

import math
from collections.abc import Collection
from functools import partial
from http import HTTPStatus

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from unmask.scoring.verdicts import Doubt, Verdict
from unmask.serve.inference import Part, Refusal, Refused, Result
from unmask.serve.observer import Observer
from unmask.serve.queue import JobQueue, State
from unmask.serve.request_filter import OTHER

_METHODS = ("GET", "HEAD", "POST")
_STATUSES = frozenset(str(int(status)) for status in HTTPStatus)
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_SCORES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class Metrics(Observer):
    """The metrics of one server, in a registry of their own."""

    def __init__(self, job_queue: JobQueue) -> None:
        """Measure a queue whose model is known, until the process ends."""
        run_info = job_queue.run_info
        assert run_info is not None
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "unmask_requests", "Requests that were answered, refused ones included.",
            ("path", "method", "status"), registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "unmask_part_seconds", "What videos spent time on, from the first byte to the answer.",
            ("part",), buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._verdicts = Counter(
            "unmask_verdicts", "Videos that were answered, by verdict.", ("verdict",),
            registry=registry,
        )  # fmt: skip
        self._doubts = Counter(
            "unmask_doubts", "Doubts of answers; an answer may have several.", ("doubt",),
            registry=registry,
        )  # fmt: skip
        self._refusals = Counter(
            "unmask_refusals", "Videos that came to no answer, by why.", ("kind",),
            registry=registry,
        )  # fmt: skip
        self._scores = Histogram(
            "unmask_score", "Scores of answers: the probability that a face is fake.",
            buckets=_SCORES, registry=registry,
        )  # fmt: skip
        videos = Gauge(
            "unmask_queue_videos", "Videos that are here, by state.", ("state",), registry=registry
        )
        for state in State:
            videos.labels(state).set_function(partial(job_queue.count, state))
        limits = job_queue.limits
        Gauge(
            "unmask_queue_places", "Videos that may be here at once.", registry=registry
        ).set(limits.jobs + limits.waiting)  # fmt: skip
        Gauge(
            "unmask_workers", "Processes that answer videos.", registry=registry
        ).set(limits.jobs)  # fmt: skip
        Gauge(
            "unmask_workers_ready", "Those of them that have their model.", registry=registry
        ).set_function(lambda: job_queue.workers_ready)  # fmt: skip
        Info("unmask_model", "The model, and the program.", registry=registry).info(
            {"sha256": run_info.model, "version": run_info.version}
        )
        # From the start on, so that a rate begins with the first one.
        for metric, names in (
            (self._seconds, Part), (self._verdicts, Verdict), (self._doubts, Doubt),
            (self._refusals, Refused),
        ):  # fmt: skip
            for name in names:
                metric.labels(name)

    def requested(self, path: str, method: str, status: int) -> None:
        """Count a request; path is an address of this server, or OTHER."""
        self._requests.labels(path, _known(method, _METHODS), _known(str(status), _STATUSES)).inc()

    def spent(self, part: Part, seconds: float) -> None:
        """Note for how long a video was in a part of its way."""
        self._seconds.labels(part).observe(seconds)

    def answered(self, outcome: Result | Refusal) -> None:
        """Count what a video came to. It is a worker's word, who may have been taken over."""
        if isinstance(outcome, Refusal):
            self._refusals.labels(_known(outcome.kind, list(Refused))).inc()
            return
        row = outcome.row if isinstance(outcome.row, dict) else {}
        self._verdicts.labels(_known(row.get("verdict"), list(Verdict))).inc()
        doubts = row.get("doubts")
        said = doubts if isinstance(doubts, list) else []
        for doubt in {_known(each, list(Doubt)) for each in said}:
            self._doubts.labels(doubt).inc()
        score = row.get("probability")
        if isinstance(score, float) and math.isfinite(score):
            self._scores.observe(score)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in a form that an Accept header takes, and its media type.

        The library's own choice fails on headers that it does not expect, and repeats a client's
        words in its answer.
        """
        if "application/openmetrics-text" in accept:
            content: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return content, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), "text/plain; version=0.0.4; charset=utf-8"


def _known(value: object, names: Collection[str]) -> str:
    """Return a label's value if it is one of a few, else OTHER."""
    return str(value) if isinstance(value, str) and value in names else OTHER
