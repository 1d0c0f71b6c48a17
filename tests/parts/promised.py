"""A promise for models that tests make, so that their limits may say fake and real."""

from dataclasses import replace

from unmask.models import checkpoint as checkpoints
from unmask.runtime.disk import content_digest
from unmask.scoring.promises import Promise

PROMISE = Promise(
    kind="made videos", genuine=20, fakes=0, max_false_alarms=0.05, left_out=20, false_alarms=1,
    unlike_to=0.05, found=0, silenced=0, power=None, power_low=None, power_high=None,
    made="2026-11-30T12:00:00+00:00", command="unmask calibrate made", version="1.0",
    genuine_sha256="ab" * 32, fakes_sha256=None, weights_sha256="cd" * 32, looks_sha256=None,
)  # fmt: skip


def save_promised(folder, net, checkpoint):
    """Write a model's folder whose limits say fake and real as they stand."""
    checkpoints.save(folder, net, checkpoint)
    sha256 = content_digest(folder / checkpoints.WEIGHTS)
    promise = replace(PROMISE, weights_sha256=sha256)
    saved = checkpoints.read_settings(folder)  # which names its portable net
    checkpoints.write_settings(folder, replace(saved, promise=promise))


def promised(checkpoint):
    """Return the checkpoint with a promise: its limits say fake and real as they stand."""
    return replace(checkpoint, promise=PROMISE)
