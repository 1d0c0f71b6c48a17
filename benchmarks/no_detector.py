"""What needs no detector, for a folder of labelled clips: python benchmarks/no_detector.py FOLDER.

FOLDER holds `real/` and `fake/`, with clips in them or in subfolders. With --model MODEL the model
in that folder answers them, too. Prints for each group of quantities its AUC and, with a model,
how far that is above the model's: by the width of the face, sharpness, grain, saturation, file
size, bitrate, and an ImageNet net that never saw a forgery; then the pairs of a fake and a real
clip of like quality. 95% intervals redraw groups: the clips of one subfolder, of one name up to
the mark --group-by, or, without either, each clip by itself. Ends with exit code 3 where something
without a detector ranks the clips better than the model. docs/no-detector.md says more.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from unmask import params
from unmask.cli.common import set_up_logging, weights_cache, workers
from unmask.errors import DatasetError, UnmaskError
from unmask.evaluation import baselines
from unmask.evaluation.looks import FileFacts, FrozenNet, look_at, main_face
from unmask.faces.files import Cropped, crop_files
from unmask.models.predict import Predictor, pool
from unmask.runtime.plain_text import shown_message, shown_name

LABELS = {"real": 0, "fake": 1}
SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".gif"}
BELOW = 3  # exit code


@dataclass(frozen=True)
class Clip:
    """A labelled clip; those that share a group are redrawn together."""

    path: Path
    label: int
    group: str


def find_clips(folder: Path, mark: str | None) -> list[Clip]:
    """Return the clips of FOLDER/real and FOLDER/fake, in the order of their names.

    Raises:
        DatasetError: one of the two folders is missing, or has no clip.
    """
    found = []
    for name, label in LABELS.items():
        inside = folder / name
        paths = sorted(
            path for path in inside.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )  # fmt: skip
        if not paths:
            raise DatasetError(
                f"Asked for the clips of {inside}; found none. Put real ones into "
                f"{folder}/real and fakes into {folder}/fake."
            )
        found += [Clip(path, label, _group(path, inside, mark)) for path in paths]
    return found


def _group(path: Path, inside: Path, mark: str | None) -> str:
    if mark and mark in path.name:
        return path.name.split(mark)[0]
    parent = path.parent.relative_to(inside)
    return str(parent) if parent.parts else path.name


def look_at_clips(
    clips: Sequence[Clip], faces: params.Faces, predictor: Predictor | None, net: FrozenNet
) -> Iterator[baselines.Seen | str]:
    """Yield each clip as it is seen, or why it can't be."""
    cropped: Cropped
    for cropped in crop_files([c.path for c in clips], faces, workers=workers()):
        clip = clips[cropped.place]
        track = main_face(cropped.found)
        if track is None:
            yield f"{shown_name(clip.path.name)}: {cropped.found.reason or 'no face'}"
            continue
        facts = FileFacts(clip.path.stat().st_size, cropped.duration_s)
        look = look_at(cropped.crops_dir, track, facts, faces.margin_ratio, net)
        score = None
        if predictor is not None:
            moving = [track for track in cropped.found.tracks if predictor.moves(track)]
            tracks = predictor.score_tracks(cropped.crops_dir, moving)
            score = pool("", tracks, None, predictor.checkpoint.temperature).probability
            if score is None:
                yield f"{shown_name(clip.path.name)}: the face hardly ever changes"
                continue
        kind = next(name for name, label in LABELS.items() if label == clip.label)
        yield baselines.Seen("", kind, clip.label, clip.group, score, look)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", type=Path, help="a model's folder")
    parser.add_argument("--group-by", metavar="MARK", help="a clip's group: its name up to this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, too")
    asked = parser.parse_args()
    set_up_logging()
    settings = params.load()
    predictor = Predictor.load(asked.model) if asked.model else None
    faces = predictor.checkpoint.faces if predictor else settings.faces
    clips = find_clips(asked.folder, asked.group_by)
    seen, left_out = [], []
    found = look_at_clips(clips, faces, predictor, FrozenNet(weights_cache()))
    for each in tqdm(found, total=len(clips), disable=None):
        (left_out if isinstance(each, str) else seen).append(each)
    summary = baselines.summarise(seen, None, settings.evaluate)
    if asked.json:
        asked.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(baselines.table("clips", summary))
    if left_out:
        print(f"{len(left_out)} of {len(clips)} clips left out: {'; '.join(left_out)}")
    if summary["above_model"]:
        sys.exit(BELOW)


if __name__ == "__main__":  # workers import this file again
    try:
        main()
    except UnmaskError as error:
        sys.exit(f"error: {shown_message(str(error))}")
