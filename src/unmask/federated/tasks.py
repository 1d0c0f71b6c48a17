"""What the benchmark's functions do inside a task: train and predict as the DVC stages do.

Imports of torch stand inside the functions: the others' tasks need not wait for it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import MALFORMED
from unmask.federated import predictions
from unmask.federated import state as federated_state
from unmask.federated.samples import PAINTED, FederatedError, Videos
from unmask.federated.state import About, check_start
from unmask.records import Chunk, VideoFaces
from unmask.runtime.disk import writing

if TYPE_CHECKING:
    from unmask.models.settings import Settings
    from unmask.params import Faces

# In a task's folder. Relative: the paths of a start's weights is part of the training's key.
FACES, START, MODEL, SCRATCH = "faces", "start", "model", "training"


def train(
    videos: Videos,
    settings_file: Path,
    start: Path | None,
    out: Path,
    folder: Path,
    *,
    workers: int,
) -> None:
    """Train on the videos' tracks as `dvc repro train` would, and write the model's state to out.

    From the weights of start, another task's state, where it is given; from the settings' own
    where not. Each training in a row draws anew: from the settings' seed plus how many came before.
    folder is the task's own, relative to the current one, for what is needed meanwhile.

    Raises:
        DatasetError: a class is lacking in train or validation.
        FederatedError: start is refused, or made by other settings; so are the crops.
    """
    from unmask.models.fit import items_of

    settings, rounds = read_settings(settings_file), 0
    if start is not None:
        state = federated_state.unpack(start, folder / START)
        ours = {
            name: getattr(settings, name).model_dump(mode="json")
            for name in ("faces", "clips", "model")
        }
        check_start(ours, state.settings)
        rounds = state.about.rounds
        weights = str(folder / START / federated_state.WEIGHTS)
        settings = replace(
            settings,
            model=settings.model.model_copy(update={"weights": weights, "weights_sha256": None}),
            train=settings.train.model_copy(update={"seed": settings.train.seed + rounds}),
        )
    chunks = lay_out(videos, settings.faces, folder / FACES, workers=workers)
    _train(chunks, settings, folder / MODEL, workers=workers)
    tracks = len(items_of(chunks, settings.train)[0])
    federated_state.pack(folder / MODEL, out, About(tracks, rounds + 1))


def _train(chunks: list[Chunk], settings: "Settings", model_dir: Path, *, workers: int) -> None:
    from unmask.models import fit
    from unmask.models import train as training
    from unmask.tracking.tracker import NullTracker

    caches = model_dir.parent  # unused: an archive brings its weights
    scratch = model_dir.with_name(SCRATCH)
    plan = fit.plan(chunks, settings, scratch=scratch, weights_cache=caches)
    training.train(
        chunks, settings, model_dir, NullTracker(plan.key),
        plan=plan, scratch=scratch, workers=workers, weights_cache=caches,
    )  # fmt: skip
    training.forget(scratch)


def predict(videos: Videos, model: Path, out: Path, folder: Path, *, workers: int) -> None:
    """Score every video as evaluate does, and write the predictions to out.

    Raises:
        FederatedError: the model is refused, or was made for other crops.
        WeightsError: its weights don't fit its backbone.
    """
    from unmask.models.predict import Predictor

    federated_state.unpack(model, folder / MODEL)
    predictor = Predictor.load(folder / MODEL)
    chunks = lay_out(videos, predictor.checkpoint.faces, folder / FACES, workers=workers)
    scores = [
        score
        for chunk in chunks
        for score in predictor.score_videos(
            chunk.faces_dir, [chunk.faces[record.video_id] for record in chunk.records]
        )
    ]
    predictions.write_predictions(out, videos.names, scores)


# ---------------------------------------------------------------- settings


def settings_text(settings: "Settings") -> str:
    """Return the settings of a training as an archive holds them."""
    sections = settings.dumped()
    return json.dumps(sections, indent=1, sort_keys=True) + "\n"


def read_settings(path: Path) -> "Settings":
    """Return the settings that settings_text wrote.

    Raises:
        FederatedError: they are missing, damaged or of another version.
    """
    from pydantic import ValidationError

    from unmask import params
    from unmask.models.settings import Settings

    try:
        sections: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Settings(
            faces=params.Faces.model_validate(sections["faces"]),
            clips=params.Clips.model_validate(sections["clips"]),
            augment=params.Augment.model_validate(sections["augment"]),
            model=params.Model.model_validate(sections["model"]),
            train=params.Train.model_validate(sections["train"]),
            verdicts=params.Verdicts.model_validate(sections["verdicts"]),
        )
    except (OSError, ValidationError, *MALFORMED) as error:
        raise FederatedError(
            f"Asked for the settings of a training; {path} holds none of this version ({error}). "
            "Pack the archives anew."
        ) from error


# ---------------------------------------------------------------- from samples back to chunks


def lay_out(videos: Videos, faces: "Faces", folder: Path, *, workers: int) -> list[Chunk]:
    """Return the videos as chunks, the crops of each linked into folder/<chunk>.

    So a training on them is the one that `dvc repro` would do on those chunks. Whole videos are
    cropped first.

    Raises:
        FederatedError: the crops were made by other settings than faces.
    """
    chunks = []
    for name in sorted({row.chunk for row in videos.rows}):
        rows = [row for row in videos.rows if row.chunk == name]
        faces_dir = folder / name
        faces_dir.mkdir(parents=True, exist_ok=True)
        found: dict[str, VideoFaces] = {}
        for row in rows:
            if row.crops is not None:
                _check_crops(name, row.faces, faces)
                found[row.record.video_id] = row.crops
                for track, path in zip(row.crops.tracks, row.paths, strict=True):
                    _link(path, faces_dir / track.file)
        if not found:
            found = _crop(videos, name, faces, faces_dir, workers=workers)
        chunks.append(Chunk(name, [row.record for row in rows], found, faces_dir))
    return chunks


def _link(path: Path, link: Path) -> None:
    with writing(link):
        link.unlink(missing_ok=True)  # an interrupted task's
        link.symlink_to(path.resolve())


def _check_crops(chunk: str, made_by: Mapping[str, Any] | None, faces: "Faces") -> None:
    asked = faces.model_dump(mode="json")
    if made_by not in (asked, PAINTED):
        differing = [name for name in asked if (made_by or {}).get(name) != asked[name]]
        raise FederatedError(
            f"The model wants crops by its own `faces` params; those of {chunk} were made with "
            f"another {', '.join(differing) or 'set of them'}. Make the samples again with the "
            "benchmark's params.yaml, or train with that of the samples."
        )


def _crop(
    videos: Videos, chunk: str, faces: "Faces", faces_dir: Path, *, workers: int
) -> dict[str, VideoFaces]:
    from unmask.faces.crops import crop_chunk
    from unmask.records import Reason

    rows = [row for row in videos.rows if row.chunk == chunk]
    there = [(row.record.video_id, row.paths[0]) for row in rows if row.paths]
    cropped = crop_chunk(there, faces_dir, faces, workers=max(workers, 1))
    found = {row.video_id: row for row in cropped}
    for row in rows:
        if not row.paths:
            detail = f"{row.record.file} is listed in the chunk's metadata, but is not there."
            missing = VideoFaces(row.record.video_id, "", (), Reason.MISSING, detail)
            found[row.record.video_id] = missing
    return found
