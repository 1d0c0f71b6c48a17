"""A made benchmark of eight videos, and detectors whose numbers can be worked out on paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unmask.evaluation.benchmarks import scores_file
from unmask.evaluation.benchmarks.scores_file import (
    Detector,
    FrameScores,
    Place,
    Scale,
    ScoreRow,
    Scores,
)

# Four real videos, then two fakes of each of two methods; a source for a real and a fake.
IDS = ("r0", "r1", "r2", "r3", "a0", "a1", "b0", "b1")
LABELS = (0, 0, 0, 0, 1, 1, 1, 1)
SOURCES = ("s0", "s1", "s2", "s3", "s0", "s1", "s2", "s3")
METHODS = ("real",) * 4 + ("swap", "swap", "blend", "blend")
COMPRESSIONS = ("c23", "c40") * 4
GOOD = (0.1, 0.2, 0.3, 0.6, 0.9, 0.8, 0.7, 0.4)  # one pair of 16 is lost: 0.6 above 0.4
POOR = (0.5, 0.6, 0.1, 0.2, 0.3, 0.9, 0.4, 0.7)


def rows_of(
    numbers: Sequence[float | None], scale: Scale = "probability", verdicts: Sequence[str] = ()
) -> list[ScoreRow]:
    """Return a row for each video."""
    found = []
    for place, number in enumerate(numbers):
        column = {"probability": "probability", "ranking": "score"}[scale]
        found.append(
            ScoreRow(
                IDS[place], LABELS[place], SOURCES[place], METHODS[place], COMPRESSIONS[place],
                reason="no_face" if number is None else "",
                verdict=verdicts[place] if verdicts else "",
                **({} if number is None else {column: number}),  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return found


def put(
    metrics_dir: Path,
    name: str,
    numbers: Sequence[float | None],
    *,
    benchmark: str = "celeb",
    scale: Scale = "probability",
    trained_on: tuple[str, ...] | None = None,
    verdicts: Sequence[str] = (),
    frames: Mapping[str, FrameScores] | None = None,
    version: str = "",
    licence: str = "",
) -> Place:
    """Write a detector's files; "model" is the pipeline's."""
    rows = sorted(rows_of(numbers, scale, verdicts), key=lambda row: row.video_id)
    about = Detector(name, scale, version, trained_on=trained_on, licence=licence)
    place = (
        scores_file.pipeline_place(metrics_dir, benchmark)
        if name == "model"
        else scores_file.detector_place(metrics_dir, benchmark, name)
    )
    scores_file.write(place, Scores(benchmark, about, rows, frames or {}))
    return place


def put_looks(metrics_dir: Path, benchmark: str = "celeb") -> Path:
    """Write what the videos look like: only those of a source have faces of one width."""
    path = metrics_dir / "benchmarks" / benchmark / "looks.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["video_id,face_px,sharpness,file_bytes,frozen_net"]
    for place, video_id in enumerate(IDS):
        width = 100.0 * 2 ** (place % 4)
        bytes_ = "" if video_id == "b1" else f"{1000.0 - 100 * LABELS[place]}"
        lines.append(f"{video_id},{width},0.5,{bytes_},{float(place)}")
    path.write_text("\n".join(lines) + "\n")
    return path
