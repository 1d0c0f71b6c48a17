"""What lets a training that was cut off go on as if nothing had happened.

One file beside the model holds all that the next epoch needs; it is replaced after every epoch, so
it is whole at any moment. What is drawn at random is drawn from (seed, epoch, ...) anew, so no
generator's state is part of it.
"""

import hashlib
import json
import logging
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from unmask.engine import on_cpu
from unmask.errors import UnmaskError
from unmask.records import Chunk
from unmask.runtime.code import code_digest
from unmask.runtime.disk import create, delete_stale, give_name, new_name

logger = logging.getLogger(__name__)

# What the weights, the temperature and the limits come from, beside params and data: with other
# code or other libraries an epoch that is done would not be the one that would be done now.
CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net", "engine/torch_net",
    "forgeries/blend", "geometry", "models/adopt/padding", "models/adopt/start", "models/backbones",
    "models/calibrate", "models/classifier", "models/clip_times", "models/clips", "models/fit",
    "models/frame_net", "models/grad_cam", "models/net_file", "models/portable", "models/predict",
    "models/resume", "models/train", "models/tuning", "scoring/scores", "scoring/stretches",
    "scoring/verdicts", "timm_facts", "video/colour", "video/decode", "video/endings",
    "video/failures", "video/frame", "video/light", "video/streams", "video/transport",
)  # fmt: skip
# And the backbone's, and what runs its net on this CPU.
PACKAGES = ("av", "lightning", "numpy", "opencv-python-headless", "torch")


def training_key(
    sections: Mapping[str, Any], chunks: Sequence[Chunk], weights_sha256: str | None, library: str
) -> str:
    """Return a digest of all that determines a training: the same key, the same model.

    sections are the params by name; library is the package that has the backbone's code. A face's
    pixels count through its video's key, which faces made from the video's content, its own params
    and its code. Where it trains does not count.
    """
    digest = hashlib.sha256()
    names = {*PACKAGES, library, on_cpu.library() or "torch"}
    libraries = [f"{name} {version(name)}" for name in sorted(names)]
    for part in (json.dumps(sections, sort_keys=True), *libraries, str(weights_sha256)):
        digest.update(part.encode() + b"\0")
    digest.update(code_digest(*CODE).encode() + b"\0")
    for chunk in chunks:
        digest.update(chunk.name.encode() + b"\0")
        for row in chain(chunk.of("train"), chunk.of("validation")):
            digest.update(repr(row).encode() + b"\0")
    return digest.hexdigest()


def epochs_done(path: Path, key: str) -> int:
    """Return how many whole epochs of the training with this key the file holds.

    0, and a word in the log, where it holds another training or is damaged.
    """
    if not path.exists():
        return 0
    try:
        with zipfile.ZipFile(path) as parts:
            if damaged := parts.testzip():  # torch.load leaves the parts' checksums alone
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, UnpicklingError, OSError, RuntimeError, ValueError) as error:
        logger.warning("%s is damaged (%s): training starts afresh", path, error)
        return 0
    kept = state.get("callbacks", {}).get(ResumeCheckpoint.__name__, {})
    if kept.get("key") != key:
        logger.info("%s is of other params, data or code: training starts afresh", path)
        return 0
    return int(kept["epochs_done"])


class ResumeCheckpoint(Checkpoint):
    """Keeps the weights of the best epoch, and after every epoch writes all the next one needs.

    Lightning's ModelCheckpoint would make two files of it, one of which can be ahead of the other.
    epochs_done is how many the file holds: what this process will go on from.
    """

    def __init__(self, path: Path, key: str, *, epochs_done: int = 0) -> None:
        self.path, self.key = path, key
        self.epochs_done = epochs_done
        self.best_loss = math.inf
        self.best_state: dict[str, torch.Tensor] = {}
        self._stopped = False

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors only: they are loaded without unpickling."""
        return {
            "key": self.key,
            "epochs_done": self.epochs_done,
            "best_loss": self.best_loss,
            "best_state": self.best_state,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what state_dict returned."""
        self.epochs_done = state_dict["epochs_done"]
        self.best_loss = state_dict["best_loss"]
        self.best_state = state_dict["best_state"]
        self._stopped = state_dict["stopped"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Refuse ranks that would go on from different epochs, each from a file of its own.

        Raises:
            UnmaskError: they would.
        """
        if trainer.world_size == 1:
            return
        own = torch.tensor(self.epochs_done, device=trainer.strategy.root_device)
        found = trainer.strategy.all_gather(own).tolist()
        if len(set(found)) > 1:
            raise UnmaskError(
                "Asked all processes of a training to go on from the same epoch; by rank they have "
                f"{found} epochs done, of the training with this key. Give them all the same "
                f"{self.path.name}, or delete it everywhere to start afresh."
            )

    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        """Stay stopped if EarlyStopping had stopped the training: Lightning forgets that."""
        trainer.should_stop = self._stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch; Lightning calls this after all other callbacks."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.best_loss:  # never, where it is not a number
            self.best_loss = loss
            self.best_state = {
                name: value.detach().to("cpu", copy=True)
                for name, value in pl_module.state_dict().items()
            }
        self.epochs_done = trainer.current_epoch + 1
        self._stopped = trainer.should_stop
        trainer.save_checkpoint(self.path, weights_only=False)


class SwapIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, then swaps the two at once.

    Lightning's own writes to the folder for temporary files, which may be on another disk: there
    the move is a copy, which can be cut off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replace the file at path by the checkpoint."""
        assert storage_options is None
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = new_name(path, "partial")
        delete_stale(path, "partial")
        with os.fdopen(create(partial), "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            give_name(partial, path)
