"""What it costs to train on the untouched faces of fakes as if they were forged.

Type: python benchmarks/two_faces.py [OUT], after `make repro`.

The sample's videos show one person each. So every fake of training and validation is given the face
of a real video of somebody else beside its own, as a video of two people has it of whom one is
forged. The same net is trained three times: on the sample as it is, with both faces taken for
forged, and with the forged one marked, so that the other is left out. Test videos stay as they are.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unmask import params
from unmask.data import copies
from unmask.evaluation import evaluate
from unmask.models import fit, train
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.records import Chunk, ForgedPart, VideoFaces
from unmask.runtime import record_files
from unmask.tracking.tracker import NullTracker

ROOT = Path(__file__).parents[1]


def with_strangers(chunk: Chunk, *, marked: bool) -> Chunk:
    """Return the chunk whose fakes, but for those of test, show another person's real face too."""
    changed, faces = [], dict(chunk.faces)
    for record in chunk.records:
        if record.label == 0 or record.split == "test":
            changed.append(record)
            continue
        reals = [
            other for other in chunk.records
            if (other.label, other.split) == (0, record.split)
            and other.source_id != record.source_id and chunk.faces[other.video_id].tracks
        ]  # fmt: skip
        own = chunk.faces[record.video_id]
        stranger = chunk.faces[reals[len(changed) % len(reals)].video_id].tracks[0]
        # To the right of everything in the picture, whose width nobody needs to know.
        edge = max(box[2] for track in own.tracks for box in track.boxes_T4)
        moved = [(x0 + 2 * edge, y0, x1 + 2 * edge, y1) for x0, y0, x1, y1 in stranger.boxes_T4]
        beside = replace(stranger, track=len(own.tracks), boxes_T4=tuple(moved))
        faces[record.video_id] = VideoFaces(own.video_id, own.key, (*own.tracks, beside))
        part = ForgedPart((0.0, 0.0, edge, edge)) if marked else None
        changed.append(replace(record, forged=part))
    return replace(chunk, records=changed, faces=faces)


def test_of(chunks: Sequence[Chunk], settings: params.Params, scratch: Path) -> dict[str, object]:
    """Train on the chunks, and return the metrics of their test videos."""
    sections = Settings.of(settings)
    cache = scratch / "weights"
    plan = fit.plan(chunks, sections, scratch=scratch / "training", weights_cache=cache)
    model = scratch / "model"
    train.train(
        chunks, sections, model, NullTracker(plan.key),
        plan=plan, scratch=scratch / "training", workers=2, weights_cache=cache,
    )  # fmt: skip
    predictor = Predictor.load(model)
    scored = evaluate.score_chunks(chunks, predictor)
    tests = [video for video in scored if video.record.split == "test"]
    found = evaluate.summarise(tests, settings.evaluate, predictor.checkpoint.temperature)
    return {name: found["video"][name] for name in ("log_loss", "roc_auc", "accuracy")}


if __name__ == "__main__":
    chosen = params.load()
    raw, crops = ROOT / "raw", ROOT / "faces"
    sample = copies.settle(record_files.read_chunks(chosen.chunks, raw, crops), raw)
    ways = {
        "one face, forged": sample,
        "two, both taken for forged": [with_strangers(chunk, marked=False) for chunk in sample],
        "two, the forged one marked": [with_strangers(chunk, marked=True) for chunk in sample],
    }
    for way, chunks in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            values = test_of(chunks, chosen, Path(folder))
        sys.stdout.write(f"{way}: {json.dumps(values)}\n")
        sys.stdout.flush()
