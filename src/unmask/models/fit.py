"""Fine-tune a backbone on face crops: clips in, the net of the best epoch out."""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from torch import nn
from torch.utils.data import DataLoader

from unmask.errors import DatasetError, UnmaskError
from unmask.models import backbones, resume
from unmask.models.adopt.record import Adopted, Start
from unmask.models.classifier import Classifier, finetuning
from unmask.models.clips import (
    ClipDataset,
    ClipItem,
    EpochSampler,
    add_twins,
    clip_items,
    count_classes,
)
from unmask.models.memory import check_memory
from unmask.models.resume import ResumeCheckpoint, SwapIO
from unmask.models.settings import Settings
from unmask.params import Train
from unmask.records import Chunk, Epoch
from unmask.runtime.record_files import epoch_line
from unmask.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

LAST = "last.ckpt"  # in the scratch folder: all that the next epoch needs


@dataclass(frozen=True)
class Plan:
    """Which training it is, and how much of it an interrupted one has done."""

    key: str
    epochs_done: int


def plan(chunks: Sequence[Chunk], params: Settings, *, scratch: Path, weights_cache: Path) -> Plan:
    """Return the training's key, and how far an interrupted one with that key got in scratch.

    Raises:
        WeightsError: model.weights can't be had.
    """
    model = params.model
    weights = backbones.find_weights(
        model.weights, model.backbone, sha256=model.weights_sha256, cache_dir=weights_cache
    )
    key = resume.training_key(
        params.dumped(), chunks, weights.sha256 if weights else None,
        backbones.library(model.backbone),
    )  # fmt: skip
    done = resume.epochs_done(scratch / LAST, key)
    if done:
        logger.info("training was cut off after %d whole epochs: it goes on from there", done)
    return Plan(key, done)


@dataclass(frozen=True)
class Fitted:
    """What a training ended with."""

    net: nn.Module  # of the epoch with the lowest validation log-loss
    history: Sequence[Epoch]
    weights_sha256: str | None  # of the file it started from; None where it started from noise
    began_as: Adopted | Start | None  # whose weights that file had, where others trained them
    validation: ClipDataset  # what epochs were compared on


def fit(
    chunks: Sequence[Chunk],
    params: Settings,
    tracker: Tracker,
    *,
    plan: Plan,
    scratch: Path,
    workers: int,
    weights_cache: Path,
    nodes: int = 1,
) -> Fitted | None:
    """Train on the chunks' training tracks and return the net of the best epoch on validation.

    scratch is a folder for what an interrupted training goes on from: cut off at any moment, it
    goes on from the last whole epoch when it is planned and called again, to the same net. On
    several nodes each calls it, in an environment that Lightning knows its place by (MASTER_ADDR,
    MASTER_PORT, NODE_RANK); all processes but the first get None. train.batch_size is each GPU's
    or, without GPUs, each node's: more of them make the batches of a step larger.

    Raises:
        DatasetError: training or validation lacks a class.
        ParamsError: a batch takes more memory than the GPU has.
        UnmaskError: no epoch ended with a validation loss that is a number; nodes were planned
            to go on from different epochs.
        WeightsError: model.weights can't be had or does not fit.
    """
    _check_gpu_memory(params)
    torch.manual_seed(params.train.seed)
    geometry = params.clips.geometry(params.model.backbone)
    training, validation = items_of(chunks, params.train)
    start = backbones.find_weights(
        params.model.weights, params.model.backbone,
        sha256=params.model.weights_sha256, cache_dir=weights_cache,
    )  # fmt: skip
    published = start.published if start else None
    net = backbones.build(
        params.model.backbone, dropout=params.model.dropout, side_px=geometry.side_px,
        unit_features=params.train.tune == "layernorm"
        or (published is not None and published.on_unit_sphere),
        published=published,
    )  # fmt: skip
    origin = backbones.load_weights(
        net, params.model.weights, params.model.backbone,
        sha256=params.model.weights_sha256, cache_dir=weights_cache,
    )  # fmt: skip
    tracker.log_params({**params.dumped(), "weights": {"sha256": origin.sha256}})
    reals, fakes = count_classes(training)
    classifier = Classifier(
        net, params.train,
        # Each class weighs half, whatever its share of the clips.
        class_weights=(len(training) / 2 / reals, len(training) / 2 / fakes),
    )  # fmt: skip
    data = ClipData(
        ClipDataset(training, geometry, augment=params.augment, seed=params.train.seed),
        ClipDataset(validation, geometry, augment=None, seed=params.train.seed),
        batch_size=params.train.batch_size, workers=workers,
    )  # fmt: skip
    if not plan.epochs_done:
        (scratch / LAST).unlink(missing_ok=True)
    history = History(tracker)
    resume_checkpoint = ResumeCheckpoint(scratch / LAST, plan.key, epochs_done=plan.epochs_done)
    if not _run_lightning(classifier, data, params, history, resume_checkpoint, nodes=nodes):
        return None
    if not resume_checkpoint.best_state:
        raise UnmaskError(
            "Asked for the epoch of the lowest validation loss; no epoch had one that is a number: "
            "the training diverged. Lower train.lr_head or train.lr_top_ratio."
        )
    classifier.load_state_dict(resume_checkpoint.best_state)
    began_as = start.origin if start else None
    return Fitted(net, history.rows, origin.sha256, began_as, data.validation)


# ---------------------------------------------------------------- what Lightning is given


def items_of(chunks: Sequence[Chunk], settings: Train) -> tuple[list[ClipItem], list[ClipItem]]:
    """Return what to train on and what to validate on.

    Where validation has no fakes and training makes its own, each real validation track also
    stands as its self-blended twin: losses, AUC and temperature need two classes.

    Raises:
        DatasetError: training or validation lacks a class.
    """
    training = clip_items(chunks, "train", self_blend=settings.self_blend)
    validation = clip_items(chunks, "validation")
    if settings.self_blend and not any(item.label for item in validation):
        validation = add_twins(clip_items(chunks, "validation", self_blend=1.0))
    for split, items in (("train", training), ("validation", validation)):
        reals, fakes = count_classes(items)
        if not (reals and fakes):
            raise DatasetError(
                f"Training needs real and fake faces in {split}; found {reals:g} real and "
                f"{fakes:g} fake tracks with train.self_blend {settings.self_blend:g}. Add videos, "
                "change raw's split, or set train.self_blend between 0 and 1: it makes fakes of "
                "real ones."
            )
    return training, validation


class ClipData(LightningDataModule):
    """Training and validation clips as Lightning wants them."""

    def __init__(
        self, training: ClipDataset, validation: ClipDataset, *, batch_size: int, workers: int
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.batch_size, self.workers = batch_size, workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled, augmented clips."""
        return self._loader(self.training, shuffle_seed=self.training.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return each validation track's middle clip."""
        return self._loader(self.validation, shuffle_seed=None)

    def _loader(self, clips: ClipDataset, *, shuffle_seed: int | None) -> DataLoader[Any]:
        assert self.trainer is not None
        sampler = EpochSampler(
            len(clips), shuffle_seed=shuffle_seed,
            rank=self.trainer.global_rank, ranks=self.trainer.world_size,
        )  # fmt: skip
        # Lightning says the epoch later than workers ask, where training is resumed.
        sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.ready)
        return DataLoader(
            clips, self.batch_size, sampler=sampler, num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            # Whatever Python's default is: other ways run the user's script again, which then needs
            # a main guard. A fork is safe on Linux alone.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
        )  # fmt: skip


class History(Callback):
    """Keeps each epoch's numbers, and tells the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.rows: list[Epoch] = []
        self._rates: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows: a resumed training goes on with them."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows; the tracker has heard of them."""
        self.rows = state_dict["rows"]

    def on_train_epoch_start(self, trainer: Trainer, _: LightningModule) -> None:
        """Note each param group's rate: at the epoch's end it is the next one's."""
        self._rates = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        """Note losses and AUC; validation has run by now."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row: Epoch = {
            "epoch": trainer.current_epoch,
            "train_loss": logged["train_loss"],
            "val_loss": logged["val_loss"],
            "val_auc": logged.get("val_auc"),
            "lr_head": self._rates[0],
            "lr_top": self._rates[1] if len(self._rates) > 1 else None,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            logger.info(epoch_line(row))
            known = {name: value for name, value in row.items() if value is not None}
            self.tracker.log_metrics(known, step=trainer.current_epoch)


# ---------------------------------------------------------------- Lightning's run


def _check_gpu_memory(params: Settings) -> None:
    if not torch.cuda.is_available():
        return  # the params stage has seen to this machine's memory
    available = torch.cuda.get_device_properties(0).total_memory
    width = 4 if params.train.cuda_precision == "32-true" else 2
    check_memory(
        params.clips, params.model, params.train, available_bytes=available, bytes_per_value=width
    )


def _run_lightning(
    classifier: Classifier,
    data: ClipData,
    params: Settings,
    history: History,
    resume_checkpoint: ResumeCheckpoint,
    *,
    nodes: int,
) -> bool:
    """Run Lightning; return whether this rank writes the model."""
    resumes = resume_checkpoint.epochs_done > 0
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        backbones.lay_out_for_cpu(classifier.net)
    trainer = Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices="auto" if on_gpu else 1,
        num_nodes=nodes,
        strategy="ddp" if nodes > 1 or (on_gpu and torch.cuda.device_count() > 1) else "auto",
        precision=params.train.cuda_precision if on_gpu else "32-true",
        max_epochs=params.train.epochs,
        callbacks=[
            finetuning(params.train),
            EarlyStopping("val_loss", patience=params.train.patience),
            resume_checkpoint,
            history,
            # In a log bars hide the epochs' lines.
            TQDMProgressBar(refresh_rate=5 if sys.stderr.isatty() else 0),
        ],
        plugins=[SwapIO()],
        logger=False,
        use_distributed_sampler=False,  # EpochSampler shares out its items itself
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        # Some CUDA kernels have no repeatable form: warn of them rather than stop.
        deterministic="warn" if on_gpu else True,
        default_root_dir=resume_checkpoint.path.parent,
    )
    with warnings.catch_warnings():
        # Advice on worker counts: callers set them from the machine's cores.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning's use of a torch type that torch is about to change.
        warnings.filterwarnings("ignore", message=".*LeafSpec")
        trainer.fit(
            classifier,
            data,
            ckpt_path=resume_checkpoint.path if resumes else None,
            weights_only=True,
        )
    return bool(trainer.is_global_zero)
