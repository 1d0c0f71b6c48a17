"""A benchmark small enough for tests: painted crops, one epoch, two or three organisations."""

from pathlib import Path

from unmask import params
from unmask.federated.archives import Recipe, pack
from unmask.federated.runs import participants
from unmask.federated.samples import PAINTED, cropped, deal, make_samples, read_videos
from unmask.federated.synthetic_samples import paint_samples
from unmask.federated.tasks import settings_text
from unmask.models.settings import Settings
from unmask.records import Chunk

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")


def paint_chunk(folder, count, *, splits=SPLITS):
    """Return a chunk of painted crops: `count` sources in turn in the splits, real and fake."""
    rows = read_videos(paint_samples(folder, count, splits=splits)).rows
    faces = {row.record.video_id: row.crops for row in rows}
    return Chunk("painted", [row.record for row in rows], faces, folder / "crops")


def make_members(folder, names, *, sources_each=3):
    """Return organisations with so many painted sources, and the chunk they were dealt from."""
    chunk = paint_chunk(folder, sources_each * len(names))
    dealt = deal([cropped(chunk, PAINTED)], names)
    for name in names:
        make_samples(name, dealt[name], folder / "samples")
    return participants(names, folder / "samples"), chunk


def small_settings():
    """Return settings by which an epoch on painted crops takes a second."""
    shipped = params.load(ROOT / "params.yaml")
    small = {"batch_size": 2, "epochs": 1, "milestone": 0, "lr_head": 1e-3}
    return Settings(
        faces=shipped.faces,
        clips=shipped.clips.model_copy(update={"frames": 2, "side_px": 64, "max_per_track": 1}),
        augment=shipped.augment,
        model=shipped.model.model_copy(update={"weights": "none"}),
        train=shipped.train.model_copy(update=small),
        verdicts=shipped.verdicts,
    )


def pack_small(folder):
    """Return the assets of the small settings."""
    return pack(ROOT, Recipe(settings_text(small_settings()), None, ""), folder)
