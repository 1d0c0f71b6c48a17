"""Train a model and write its folder: fit, calibrate, describe, save."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from unmask.data import copies, leakage, same_pictures
from unmask.models import backbones, checkpoint, model_card
from unmask.models.calibrate import calibrate, score_validation
from unmask.models.checkpoint import Checkpoint
from unmask.models.fit import Fitted, Plan, fit
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.params import Raw
from unmask.records import SPLITS, Chunk
from unmask.runtime import record_files
from unmask.scoring import verdicts
from unmask.tracking.tracker import Tracker


def read_chunks(names: Sequence[str], raw_dir: Path, faces_dir: Path, raw: Raw) -> list[Chunk]:
    """Return the named chunks as one data set, after checking that its splits do not leak.

    Raises:
        DatasetError: the splits leak; videos contradict or repeat each other and params.yaml
            refuses that; or a chunk's file is missing or damaged.
    """
    # The raw stage checked each chunk by itself; two chunks may share a person or a file.
    listings = [leakage.read_listing(name, raw_dir / name) for name in names]
    same_pictures.check_across(listings, raw_dir, raw)
    listings = copies.check_copies(listings, raw)
    leakage.check(listings, raw)
    return [
        replace(chunk, records=list(listing.records))
        for chunk, listing in zip(
            record_files.read_chunks(names, raw_dir, faces_dir), listings, strict=True
        )
    ]


def train(
    chunks: Sequence[Chunk],
    params: Settings,
    model_dir: Path,
    tracker: Tracker,
    *,
    plan: Plan,
    scratch: Path,
    workers: int,
    weights_cache: Path,
    nodes: int = 1,
    frames: Mapping[Path, Path] | None = None,
) -> None:
    """Train on the chunks' training tracks and write model_dir.

    The epoch with the lowest validation log-loss is kept; the temperature and the thresholds of
    verdicts are learned on the validation videos, scored as predict scores them, or on validation
    clips where the fakes among them are self-blended.

    scratch is a folder on the same disk as model_dir; `fit` explains the other arguments. With
    several nodes, each node calls this and only the first writes the model. If it is interrupted,
    even while the model is written, plan it and call it again: the result is the same model.

    Raises:
        UnmaskError: as fit raises it.
    """
    fitted = fit(
        chunks, params, tracker, plan=plan, scratch=scratch, workers=workers,
        weights_cache=weights_cache, nodes=nodes, frames=frames,
    )  # fmt: skip
    if fitted is None:
        return  # another rank writes the model
    clips, colours = params.clips, backbones.recorded_colours(fitted.net)
    if colours is not None:  # what timm says today is kept: another version may say otherwise
        own = clips.geometry(params.model.backbone)
        clips = clips.model_copy(update={"side_px": own.side_px})
    uncalibrated = Checkpoint(
        faces=params.faces, clips=clips, model=params.model,
        temperature=1.0, limits=verdicts.NOTHING_LEARNED, run_key=plan.key,
        colours=colours, unit_features=backbones.has_unit_features(fitted.net),
        began_as=fitted.began_as,
    )  # fmt: skip
    predictor = Predictor(fitted.net, uncalibrated)
    found = score_validation(predictor, chunks, clips=fitted.validation)
    carried = calibrate(predictor, found, params.verdicts)
    card = describe(chunks, params, fitted, carried)

    whole = scratch / "model"
    if whole.exists():  # left by a run that was interrupted while writing it
        shutil.rmtree(whole)
    checkpoint.save(whole, fitted.net, carried, portable=predictor.portable)
    (whole / checkpoint.CARD).write_text(card, encoding="utf-8")
    record_files.write_history(whole / checkpoint.HISTORY, fitted.history)
    checkpoint.swap(whole, model_dir)
    tracker.log_file(model_dir / checkpoint.CARD)
    tracker.log_model(model_dir)


def forget(scratch: Path) -> None:
    """Delete what a training is resumed from. Call it last, when there is nothing left to do."""
    shutil.rmtree(scratch, ignore_errors=True)


def describe(chunks: Sequence[Chunk], params: Settings, fitted: Fitted, carried: Checkpoint) -> str:
    """Return the model card of a net that was fitted on the chunks with these params.

    carried is the calibrated checkpoint, which holds the limits of the verdicts.
    """
    geometry = carried.geometry
    packages = ("torch", "lightning", backbones.library(params.model.backbone))
    best = min(fitted.history, key=lambda row: row["val_loss"] or 0.0)
    records = [record for chunk in chunks for record in chunk.records]
    splits: dict[str, model_card.SplitFacts] = {}
    for split in SPLITS:
        own = [record for record in records if record.split == split]
        fakes = Counter(record.method for record in own if record.label == 1)
        splits[split] = model_card.SplitFacts(
            videos=len(own),
            sources=len({record.source_id for record in own}),
            fakes_by_method=dict(sorted(fakes.items())),
            people=len({person for record in own for person in record.identities}),
        )
    facts = model_card.CardFacts(
        backbone=params.model.backbone,
        weights=params.model.weights,
        weights_sha256=fitted.weights_sha256,
        began_as=fitted.began_as,
        parameters=sum(parameter.numel() for parameter in fitted.net.parameters()),
        frames=geometry.frames,
        interval_s=geometry.interval_s,
        side_px=geometry.side_px,
        brightness=geometry.brightness,
        crop_margin_ratio=params.faces.margin_ratio,
        crop_side_px=params.faces.side_px,
        crop_rate_fps=params.faces.rate_fps,
        tune=params.train.tune,
        self_blend=params.train.self_blend,
        chunks=tuple(chunk.name for chunk in chunks),
        splits=splits,
        epochs_run=len(fitted.history),
        best_epoch=int(best["epoch"] or 0),
        best_log_loss=float(best["val_loss"] or 0.0),
        best_auc=best["val_auc"],
        limits=carried.limits,
        package_versions={name: version(name) for name in packages},
        # The same data, params and code should give the same card, whatever the commit. The
        # tracker's run has the commit as a tag.
        git_commit=None,
        unmask_version=version("unmask"),
    )
    return model_card.model_card(facts)
