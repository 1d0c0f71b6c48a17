"""What the plans of one machine scored on everybody's test videos, and what federation cost.

A network's metrics are one number an organisation. Here all predictions are at hand: they are
pooled, so a plan's metrics are those that `evaluate` would give its model, with intervals.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.federated import predictions
from unmask.federated.leaderboard import POOLED
from unmask.federated.local import Participant
from unmask.federated.samples import FederatedError, read_videos
from unmask.params import Evaluate
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics

HEADLINE = ("log_loss", "roc_auc")
COST = "cost"  # log-loss above that of pooled training, video by video
Summary = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A test video and a plan's answer; None where it has none."""

    label: int
    source: str
    probability: float | None


def read_answers(members: Sequence[Participant], predictions_dir: Path) -> dict[str, Answer]:
    """Return a plan's answer to each test video of all organisations, by the video's name.

    Raises:
        FederatedError: predictions_dir/<organisation>.json are not of these videos.
    """
    answers: dict[str, Answer] = {}
    for member in members:
        videos = read_videos(member.folders_of("test"))
        found = predictions.read_predictions(videos, predictions_dir / f"{member.name}.json")
        rows = zip(videos.labels, videos.source_ids, found, strict=True)
        answers |= {name: Answer(*row) for name, row in zip(videos.names, rows, strict=True)}
    return answers


def summarise(plans: Mapping[str, Mapping[str, Answer]], settings: Evaluate) -> Summary:
    """Return each plan's metrics with 95% intervals that redraw whole sources, and its cost.

    The cost is the log-loss less that of the plan `pooled`, on the videos that both answered, None
    where there is none; its interval pairs them: the same videos are drawn for both.

    Raises:
        FederatedError: a plan answered none of the videos.
    """
    some = next(iter(plans.values()))
    summary: Summary = {
        "videos": len(some), "sources": len({each.source for each in some.values()}), "plans": {},
    }  # fmt: skip
    for name, answers in plans.items():
        scored = [each for each in answers.values() if each.probability is not None]
        if not scored:
            raise FederatedError(
                f"Asked for the metrics of the plan {name}; none of {len(answers)} test videos has "
                "a score. Look at the reasons in the samples' faces.jsonl."
            )
        summary["plans"][name] = {
            "coverage": len(scored) / len(answers),
            **metrics.summarise(
                np.array([each.label for each in scored]),
                np.array([each.probability for each in scored]),
                np.array([each.source for each in scored]),
                resamples=settings.bootstrap_resamples, seed=settings.seed,
            ),
        }  # fmt: skip
        if name != POOLED and POOLED in plans:
            summary["plans"][name][COST] = _cost(answers, plans[POOLED], settings)
    return summary


def _cost(
    ours: Mapping[str, Answer], pooled: Mapping[str, Answer], settings: Evaluate
) -> metrics.Measured:
    return metrics.measure_difference(
        metrics.log_loss,
        [each.label for each in ours.values()],
        [each.probability for each in ours.values()],
        [pooled[name].probability for name in ours],
        [each.source for each in ours.values()],
        resamples=settings.bootstrap_resamples, seed=settings.seed,
    )  # fmt: skip


def write(summary: Summary, folder: Path) -> None:
    """Write folder/test.json with all of it, and summary.json with what a table has room for."""
    few = {
        name: {"coverage": plan["coverage"]}
        | {key: plan[key]["value"] for key in (*HEADLINE, COST) if key in plan}
        for name, plan in summary["plans"].items()
    }
    write_atomically(folder / "test.json", json.dumps(summary, indent=2) + "\n")
    write_atomically(folder / "summary.json", json.dumps(few, indent=2) + "\n")


def table(summary: Summary) -> str:
    """Return the plans as a table for people, in Markdown."""
    rows = [
        ["plan", "log-loss", "AUC", "coverage", "log-loss above pooled"],
        ["---"] * 5,
        *(
            [
                name, *(metrics.shown(plan[key]) for key in HEADLINE), f"{plan['coverage']:.0%}",
                metrics.shown(plan[COST], sign="+") if COST in plan else "",
            ]
            for name, plan in summary["plans"].items()
        ),
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
