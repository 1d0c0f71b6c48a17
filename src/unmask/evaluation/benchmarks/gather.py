"""What lies in metrics/ of each benchmark: detectors' scores of one list of videos, and looks."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED, DatasetError
from unmask.evaluation.benchmarks import scores_file
from unmask.evaluation.benchmarks.scores_file import ScoreRow, Scores, list_digest
from unmask.records import VideoRecord
from unmask.runtime.disk import read_regular
from unmask.runtime.plain_text import cell_text

WIDTH, SHARPNESS = "face_px", "sharpness"  # what pairs of like quality are matched by
FROZEN_NET = "frozen_net"
_MOST_BYTES = 2**27


@dataclass(frozen=True, eq=False)
class Looks:
    """What can be told of a benchmark's videos without a detector."""

    # By name, such as face_px, then by video id: what was not measured is not there.
    values: Mapping[str, Mapping[str, float]]
    words: Mapping[str, str] = field(default_factory=dict)  # what a table calls them
    # 1 where training videos showed that fakes have more of it, else -1; not there: not known.
    directions: Mapping[str, int] = field(default_factory=dict)


NO_LOOKS = Looks({})


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark and all that is known of detectors on it."""

    name: str
    videos: Sequence[ScoreRow]  # the list, in the order of ids; the scores in it are nobody's
    detectors: Sequence[Scores]  # the pipeline's first; all of this list
    looks: Looks = NO_LOOKS
    chosen: str = ""  # by whose word these videos are its test videos; empty where nobody says


def names(metrics_dir: Path) -> list[str]:
    """Return the benchmarks that some detector has scores on."""
    ours = {path.parent.name for path in metrics_dir.glob("benchmarks/*/detector.json")}
    others = {path.parent.name for path in metrics_dir.glob("detectors/*/*.json")}
    return sorted(ours | others)


def read(metrics_dir: Path, name: str, listed: Sequence[VideoRecord] | None = None) -> Benchmark:
    """Return a benchmark with all detectors' scores.

    listed is the benchmark's list as it is now; without it all detectors need to have one list.

    Raises:
        DatasetError: there is no score; a file is damaged; a detector was scored on another list;
            two have one name, or two say different things of a video's compression or generator.
    """
    detectors = [scores_file.read(place) for place in scores_file.places(metrics_dir, name)]
    if not detectors:
        there = ", ".join(names(metrics_dir)) or "none"
        raise DatasetError(
            f"Asked for detectors on the benchmark {name}; {metrics_dir} has no scores of it. "
            f"There are scores on: {there}. Score a model with `unmask benchmark {name}`, or import"
            " a detector's scores with `unmask benchmark import`."
        )
    _check_one_list(name, detectors, listed)
    summary = metrics_dir / "benchmarks" / f"{name}.json"
    has_ours = scores_file.pipeline_place(metrics_dir, name).detector.is_file()
    return Benchmark(
        name,
        _with_conditions(name, detectors),
        detectors,
        _read_looks(metrics_dir, name, detectors),
        _read_chosen(summary) if has_ours else "",
    )


def _check_one_list(
    name: str, detectors: Sequence[Scores], listed: Sequence[VideoRecord] | None
) -> None:
    wanted = detectors[0].list_sha256 if listed is None else list_digest(listed)
    whose = f"as {detectors[0].detector.name} was" if listed is None else "that it has now"
    stale = [each.detector.name for each in detectors if each.list_sha256 != wanted]
    if stale:
        raise DatasetError(
            f"Asked for detectors on the benchmark {name}; {', '.join(stale)} scored on another "
            f"list of its videos than the one {whose}, so they can't be compared. Score or import "
            "them again, or delete their files."
        )
    called = [each.detector.name for each in detectors]
    if twice := sorted({each for each in called if called.count(each) > 1}):
        raise DatasetError(
            f"Asked for detectors on the benchmark {name}; two are called {twice[0]}. Import one "
            "of them by another name."
        )
    for each in detectors:
        if each.benchmark != name:
            raise DatasetError(
                f"{each.detector.name} is among the detectors on {name}, and its file says that "
                f"it was scored on {each.benchmark}. Score or import it again."
            )


def _with_conditions(name: str, detectors: Sequence[Scores]) -> list[ScoreRow]:
    """Return the list with each video's compression and generator, whoever says them."""
    found = []
    for rows in zip(*(scores.rows for scores in detectors), strict=True):
        words: dict[str, str] = {}
        for condition in ("compression", "generator"):
            said = sorted({getattr(row, condition) for row in rows} - {""})
            if len(said) > 1:
                raise DatasetError(
                    f"Detectors on {name} disagree on the {condition} of {rows[0].video_id!r}: "
                    f"{' and '.join(said)}. Import one of them without that column."
                )
            words[condition] = said[0] if said else ""
        first = rows[0]
        found.append(
            ScoreRow(
                first.video_id,
                first.label,
                first.source_id,
                first.method,
                compression=words["compression"],
                generator=words["generator"],
            )
        )
    return found


# ---------------------------------------------------------------- looks


def _read_looks(metrics_dir: Path, name: str, detectors: Sequence[Scores]) -> Looks:
    """Return what the pipeline measured of the videos; NO_LOOKS where it has not.

    Raises:
        DatasetError: the file is no table, or of other videos.
    """
    path = metrics_dir / "benchmarks" / name / "looks.csv"
    if not path.exists():
        return NO_LOOKS
    known = {row.video_id for row in detectors[0].rows}
    values: dict[str, dict[str, float]] = {}
    try:
        text = read_regular(path, _MOST_BYTES).decode()
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = [column for column in table.fieldnames or [] if column != "video_id"]
        for row in table:
            video_id = cell_text(row["video_id"])
            if video_id not in known:
                raise ValueError(f"{video_id[:80]!r} is not on the benchmark's list")
            for column in columns:
                if row[column]:
                    value = float(row[column])
                    if not math.isfinite(value):
                        raise ValueError(f"{column} of {video_id[:80]!r} is {value}")
                    values.setdefault(column, {})[video_id] = value
    except (OSError, csv.Error, *MALFORMED) as error:
        raise DatasetError(
            f"Asked for what the videos of {name} look like in {path}; it is not what the pipeline "
            f"writes ({str(error)[:200]}). Run `dvc repro benchmark@{name}`."
        ) from error
    words, directions = _read_words(metrics_dir / "benchmarks" / f"{name}.json")
    return Looks(values, words, directions)


def _read_details(path: Path) -> Mapping[str, Any] | None:
    """Return what the pipeline's summary says of a benchmark; None where there is no such file.

    Raises:
        DatasetError: it is not what the pipeline writes.
    """
    if not path.exists():
        return None
    try:
        (details,) = json.loads(read_regular(path, _MOST_BYTES))["details"]
        return dict(details)
    except (OSError, *MALFORMED) as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: BaseException) -> DatasetError:
    return DatasetError(
        f"Asked for what the pipeline says of a benchmark in {path}; it is not what the pipeline "
        f"writes ({str(error)[:200]}). Run `dvc repro` to make it again."
    )


def _read_chosen(path: Path) -> str:
    """Return in words by whose word a benchmark's videos are its test videos, and what is lacking.

    Nothing where the summary does not say.
    """
    details = _read_details(path)
    if details is None or "chosen" not in details:
        return ""
    try:
        chosen: Mapping[str, Any] = details["chosen"]
        words = str(chosen["by"])
        if "protocol" in chosen:
            words += f" {chosen['protocol']}, version {int(chosen['version'])}"
            if missing := int(chosen["missing"]):
                words += f", of which {missing:,} of {int(chosen['named']):,} videos are missing"
        if left := sum(map(int, details.get("left_out", {}).values())):
            words += f", without {left:,} of which training has seen something"
    except MALFORMED as error:
        raise _not_written(path, error) from error
    return words


def _read_words(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Return what the pipeline's summary calls each quantity, and which way fakes go in training.

    Nothing where there is no such summary: the table then takes its own words and videos.
    """
    details = _read_details(path)
    if details is None:
        return {}, {}
    try:
        plain: Mapping[str, Any] = details["without_detector"]
        words = {str(row["name"]): str(row["words"]) for row in plain["rows"]}
        if plain["direction_from"] != "training videos":
            return words, {}
        turned = {"more": 1, "less": -1}
        return words, {
            str(row["name"]): turned[row["fakes_have"]]
            for row in plain["rows"] if row["fakes_have"]
        }  # fmt: skip
    except MALFORMED as error:
        raise _not_written(path, error) from error
