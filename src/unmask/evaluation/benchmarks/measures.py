"""What a detector's scores on a benchmark are worth: one summary, for metrics/ and for people."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DatasetError
from unmask.evaluation import plots
from unmask.evaluation.baselines import Learned, Seen, linear_logits
from unmask.evaluation.benchmarks.drawn import RANKING, Drawn
from unmask.evaluation.benchmarks.scores_file import VERDICTS, ScoreRow, Scores
from unmask.evaluation.looks import QUANTITIES
from unmask.params import Evaluate
from unmask.runtime.disk import write_atomically
from unmask.runtime.plain_text import plain_cell
from unmask.scoring import metrics
from unmask.scoring.scores import Ints
from unmask.tracking.tracker import Tracker, flat

Summary = dict[str, Any]
HEADLINE = ("roc_auc", "average_precision", "equal_error_rate", "log_loss", "tpr_at_fpr_1",
            "tpr_at_fpr_5")  # fmt: skip


def summarise(scores: Scores, settings: Evaluate) -> Summary:
    """Return a detector's metrics on a benchmark: of videos and of clips, overall and by group.

    Each metric has its 95% bootstrap interval, which redraws the benchmark's sources (Drawn). A
    group's metrics set the fakes of a method or generator against all real videos; of a
    compression, both classes are of it. A metric that needs two classes is None over one. Coverage
    is the share of videos that have a score; the rest are counted by reason and in no other
    metric. verdicts is None where the detector gives none: a model without a promise.

    Raises:
        DatasetError: no video has a score.
    """
    rows = scores.rows
    scored = [row for row in rows if row.rank is not None]
    if not scored:
        raise DatasetError(
            f"Asked for metrics of {scores.detector.name} on {scores.benchmark}; none of "
            f"{len(rows)} videos has a score. The reasons are in its table of scores."
        )
    drawn = Drawn([row.label for row in rows], [row.source_id for row in rows], settings)

    def of(is_member: Callable[[ScoreRow], bool]) -> Summary:
        places = [n for n, row in enumerate(rows) if row.rank is not None and is_member(row)]
        return _measure_videos(rows, np.array(places), drawn)

    def of_fakes(column: str, word: str) -> Summary:
        return of(lambda row: row.label == 0 or getattr(row, column) == word)

    def words(column: str, kinds: tuple[int, ...]) -> list[str]:
        return sorted({getattr(row, column) for row in scored if row.label in kinds} - {""})

    def of_compression(word: str) -> Summary:
        return of(lambda row: row.compression == word)

    return {
        "benchmark": scores.benchmark,
        "detector": scores.detector.name,
        "trained_on": scores.detector.trained_on,
        "videos": len(rows),
        "real": sum(row.label == 0 for row in rows),
        "fake": sum(row.label == 1 for row in rows),
        "sources": len({row.source_id for row in rows}),
        "coverage": len(scored) / len(rows),
        "reasons": dict(sorted(Counter(r.reason for r in rows if r.reason).items())),
        "video": of(lambda _: True),
        "clip": _measure_clips(scores, drawn),
        "verdicts": _count_verdicts(rows, drawn),
        "methods": {word: of_fakes("method", word) for word in words("method", (1,))},
        "generators": {word: of_fakes("generator", word) for word in words("generator", (1,))},
        "compressions": {word: of_compression(word) for word in words("compression", (0, 1))},
    }


def _measure_videos(rows: Sequence[ScoreRow], places_M: Ints, drawn: Drawn) -> Summary:
    """Return the metrics of the videos at these places, which all have a score."""
    own = [rows[place] for place in places_M.tolist()]
    ranks = np.array([row.rank for row in own], np.float64)
    probabilities = np.array([row.probability for row in own], np.float64)  # None becomes NaN
    return {
        "count": len(own),
        **drawn.ranking(places_M, ranks),
        "log_loss": drawn.log_loss(places_M, probabilities),
    }


def _measure_clips(scores: Scores, drawn: Drawn) -> Summary | None:
    if not scores.frames:
        return None
    return {
        "count": sum(len(frames.scores) for frames in scores.frames.values()),
        "roc_auc": drawn.frame_auc([scores.frames.get(row.video_id) for row in scores.rows]),
    }


def _count_verdicts(rows: Sequence[ScoreRow], drawn: Drawn) -> Summary | None:
    """Return the verdicts of real and fake videos, and which share of each is called fake."""
    verdicts = [row.verdict for row in rows]
    if not any(verdicts):
        return None
    found: Summary = {}
    for label, kind, rate in ((0, "real", "false_alarms"), (1, "fake", "found")):
        counts = Counter(row.verdict for row in rows if row.label == label)
        found[kind] = {verdict: counts[verdict] for verdict in VERDICTS}
        found[rate] = drawn.called_fake(label, verdicts)
    return found


def record(summary: Summary) -> Summary:
    """Return what metrics/benchmarks/<name>.json holds.

    DVC's tables show the first key, and leave lists out.
    """
    return {"video": headline(summary), "details": [summary]}


def headline(summary: Summary) -> dict[str, float | None]:
    """Return the few values that DVC's tables have room for."""
    values = {name: summary["video"][name]["value"] for name in HEADLINE}
    return values | {"coverage": summary["coverage"]}


def table(summary: Summary) -> str:
    """Return the metrics as a table for people."""
    lines = [
        f"{summary['benchmark']}: {summary['detector']}, {summary['real']} real and "
        f"{summary['fake']} fake videos of {summary['sources']} sources, "
        f"{summary['coverage']:.0%} scored"
    ]
    shown = {"all": summary["video"]}
    for kind in ("methods", "generators", "compressions"):
        shown |= summary[kind]
    names = [*RANKING, "log_loss"]
    lines.append(f"{'':24}{'videos':>8}" + "".join(f"{name:>24}" for name in names))
    for word, values in shown.items():
        cells = "".join(f"{metrics.shown(values[name]):>24}" for name in names)
        lines.append(f"{word[:23]:24}{values['count']:>8}{cells}")
    if (verdicts := summary["verdicts"]) is not None:
        lines.append(
            f"Verdicts: called fake are {metrics.shown(verdicts['false_alarms'])} of the real "
            f"videos, {metrics.shown(verdicts['found'])} of the fakes."
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- files


def looks_csv(seen: Mapping[str, Seen], learned: Learned | None) -> str:
    """Return what each video looks like without a detector: a row a video, by its id.

    frozen_net is the logit of logistic regression on an image net's features, learned on the
    training videos; empty where nothing was learned, as are quantities that were not measured.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video_id", *QUANTITIES, "frozen_net"])
    for video_id, video in sorted(seen.items()):
        cells = [video.look.quantities.get(name) for name in QUANTITIES]
        logit = linear_logits(learned.linear, [video])[0] if learned else None
        rows.writerow(
            [plain_cell(video_id), *("" if c is None else repr(float(c)) for c in (*cells, logit))]
        )
    return out.getvalue()


def write_plots(folder: Path, scores: Scores) -> None:
    """Write the ROC, the histogram and the other plots of an evaluation, all of test videos."""
    known = [(row.label, row.probability) for row in scores.rows if row.probability is not None]
    labels, probabilities = zip(*known, strict=True)
    plots.write_plots(folder, {"test": (np.array(labels), np.array(probabilities))})


def write(summary: Summary, path: Path, pictures: Iterable[Path], tracker: Tracker) -> None:
    """Write the metrics' file and tell the tracker; pictures go to it, too."""
    write_atomically(path, json.dumps(record(summary), indent=2) + "\n")
    log(summary, tracker)
    tracker.log_file(path, "metrics")
    for picture in pictures:
        tracker.log_file(picture, "plots")


def log(summary: Summary, tracker: Tracker) -> None:
    """Tell the tracker which benchmark and detector this is, and all numbers of the summary."""
    names = ("benchmark", "detector", "trained_on")
    tracker.log_params({name: summary[name] for name in names})
    tracker.log_metrics(dict(_numbers(summary)))


def _numbers(summary: Summary) -> Iterator[tuple[str, float]]:
    for name, value in flat(summary).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value)
