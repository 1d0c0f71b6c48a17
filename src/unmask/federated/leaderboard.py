"""Submissions and their leaderboard: what each plan scored, where, and by which code."""

import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unmask.errors import MALFORMED
from unmask.federated.plans import METRICS, Plan
from unmask.federated.samples import FederatedError
from unmask.runtime.disk import write_atomically
from unmask.tracking.tracker import Tracker

FORMAT = 1
POOLED = "pooled"  # the plan that others are compared with
HEADINGS = ("rank", "plan", "trained on", "log-loss", "vs pooled", "AUC", "coverage")
NOTE = (
    "Lower log-loss is better; ln 2 = 0.693 is a constant 0.5. Each number is the mean over the "
    "test organisations, weighted by their videos with a score; coverage by all their videos. vs "
    "pooled is the log-loss that not pooling the videos cost, by the same code on the same samples."
)


@dataclass(frozen=True)
class Submission:
    """A plan that was run."""

    plan: str
    train_on: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]  # by test organisation, then metric
    videos: Mapping[str, int]  # test videos of each
    functions: Mapping[str, str]  # SHA-256 of the archives it ran
    samples: str  # SHA-256 of the names of all samples
    model: str | None  # SHA-256 of the model's zip
    backend: str
    key: str  # a digest of all that decides the result

    @property
    def code(self) -> str:
        """Return one digest of all archives."""
        return _digest(dict(self.functions))

    def mean(self, metric: str) -> float:
        """Return a metric over all test organisations: the log-loss is that of all videos at once.

        The AUC is not, as videos of two organisations are never ranked against each other.
        """
        whole = metric == "coverage"
        weights = {
            org: self.videos[org] * (1 if whole else scores["coverage"])
            for org, scores in self.scores.items()
        }
        total = sum(self.scores[org][metric] * weight for org, weight in weights.items())
        return total / sum(weights.values())


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def submission_key(
    plan: Plan,
    functions: Mapping[str, str],
    opener: str,
    samples: Mapping[str, Sequence[str]],
    *,
    backend: str,
) -> str:
    """Return the digest of all that decides what a plan scores.

    functions and opener are SHA-256 of what will be run; samples are their names, made of their
    content, by organisation.
    """
    names = {organisation: list(own) for organisation, own in samples.items()}
    return _digest([plan.digest, dict(functions), opener, names, backend])


def samples_digest(samples: Iterable[str]) -> str:
    """Return the digest of the samples that a benchmark is run on, however they are dealt."""
    return _digest(sorted(set(samples)))


def scores_of(plan: Plan, values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the metrics by organisation, from the values of the plan's tasks by name."""
    scores: dict[str, dict[str, float]] = {}
    for task in plan.tasks:
        if task.function in METRICS:
            scores.setdefault(task.organisation, {})[task.function] = values[task.name]
    return scores


def run_key(submission: Submission) -> str:
    """Return the name of a plan's run in a tracker."""
    return f"federated-{submission.key[:16]}"


def log(submission: Submission, tracker: Tracker) -> None:
    """Write a plan's run down."""
    tracker.log_params({"plan": submission.plan, "train_on": ",".join(submission.train_on)})
    tracker.log_tags({"code": submission.code, "backend": submission.backend})
    tracker.log_metrics({metric: submission.mean(metric) for metric in METRICS})
    tracker.log_metrics({
        f"{metric}_{organisation}": value
        for organisation, scores in submission.scores.items()
        for metric, value in scores.items()
    })  # fmt: skip


# ---------------------------------------------------------------- files


def path_of(folder: Path, key: str) -> Path:
    """Return where the submission of that key is written."""
    return folder / f"{key[:16]}.json"


def write(folder: Path, submission: Submission) -> None:
    """Write a submission beside the others."""
    text = json.dumps({"format": FORMAT, **asdict(submission)}, indent=1, sort_keys=True)
    write_atomically(path_of(folder, submission.key), text + "\n")


def read_all(folder: Path) -> list[Submission]:
    """Return the submissions, the best log-loss first.

    Raises:
        FederatedError: there is none, or one is damaged.
    """
    submissions = [_read(path) for path in sorted(folder.glob("*.json"))]
    if not submissions:
        raise FederatedError(
            f"Asked for the leaderboard of {folder}; no submission is there. Make one: `unmask "
            "federated run-local`."
        )
    return ranked(submissions)


def ranked(submissions: Iterable[Submission]) -> list[Submission]:
    """Return the submissions, the best log-loss first."""
    return sorted(submissions, key=lambda each: (each.mean("log_loss"), each.plan, each.key))


def _read(path: Path) -> Submission:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        submission = Submission(**values | {"train_on": tuple(values["train_on"])})
        for metric in METRICS:
            submission.mean(metric)
    except (OSError, *MALFORMED) as error:
        raise FederatedError(
            f"Asked for the submission in {path}; it holds none of this version ({error!r}). "
            "Delete it and run the plan again."
        ) from error
    return submission


# ---------------------------------------------------------------- the table


def _cost(submission: Submission, submissions: Iterable[Submission]) -> float | None:
    """Return its log-loss less that of pooled training; None where there is no such."""
    for other in submissions:
        alike = other.code == submission.code and other.samples == submission.samples
        if other.plan == POOLED and alike:
            return submission.mean("log_loss") - other.mean("log_loss")
    return None


def _rows(submissions: Sequence[Submission]) -> list[list[str]]:
    rows = []
    for rank, each in enumerate(submissions, start=1):
        cost = _cost(each, submissions)
        rows.append([
            str(rank), each.plan, ", ".join(each.train_on) or "-", f"{each.mean('log_loss'):.4f}",
            "" if cost is None else f"{cost:+.4f}", f"{each.mean('auc'):.4f}",
            f"{each.mean('coverage'):.3f}",
            *(
                f"{each.scores[org]['log_loss']:.4f} / {each.scores[org]['auc']:.4f}"
                if org in each.scores else "" for org in _tested(submissions)
            ),
            each.code[:12], (each.model or "")[:12],
        ])  # fmt: skip
    return rows


def _tested(submissions: Iterable[Submission]) -> list[str]:
    return sorted({org for each in submissions for org in each.scores})


def _headings(submissions: Sequence[Submission]) -> list[str]:
    tested = [f"{org}: log-loss / AUC" for org in _tested(submissions)]
    return [*HEADINGS, *tested, "code", "model"]


def table(submissions: Sequence[Submission]) -> str:
    """Return the leaderboard as text; submissions come as `ranked` sorts them."""
    rows = [_headings(submissions), *_rows(submissions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def page(submissions: Sequence[Submission]) -> str:
    """Return the leaderboard as one page of HTML that loads nothing else."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in _headings(submissions))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in _rows(submissions)
    )
    details = "".join(_details(each) for each in submissions)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Leaderboard</title>\n'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}"
        "th,td{padding:.3rem .7rem;border-bottom:1px solid #ccc;text-align:left;white-space:nowrap}"
        "code{overflow-wrap:anywhere}</style>\n"
        f"<h1>Federated deepfake detection</h1>\n<p>{html.escape(NOTE)}</p>\n"
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"<h2>Digests</h2>\n{details}</html>\n"
    )


def _details(submission: Submission) -> str:
    digests = {**submission.functions, "samples": submission.samples, "model": submission.model}
    items = "".join(
        f"<li>{html.escape(name)}: <code>{html.escape(digest or 'not fetched')}</code></li>"
        for name, digest in digests.items()
    )
    title = html.escape(f"{submission.plan} ({submission.backend}, {submission.key[:16]})")
    return f"<details><summary>{title}</summary><ul>{items}</ul></details>\n"
