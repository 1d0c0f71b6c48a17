"""A starting checkpoint for X3D, learned from open faces alone.

X3D from random weights learns nothing from a few hundred clips. So its spatial half is trained
first, as an image net (image_net.py) on many rendered pairs of a real face and its forgery
(pretrain_bank.py), with dense supervision: beside the verdict it predicts where the picture was
pasted (Li et al., "Face X-ray", CVPR 2020, section 3). Time is learned from there by fine-tuning.
"""

import io
import logging
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from unmask.engine import on_cpu
from unmask.forgeries.blend import Floats
from unmask.forgeries.mesh_hulls import read_mesh_points
from unmask.forgeries.sample import read_sources
from unmask.models import backbones
from unmask.models.image_net import ImageX3D, inflate
from unmask.models.pretrain_bank import RENDERED_AT_ONCE, SHARES, Bank, render_bank
from unmask.models.pretrain_faces import (
    Material,
    collect_faces,
    collect_portraits,
    read_portraits,
)
from unmask.params import Detect, Pretrain
from unmask.runtime.code import code_digest
from unmask.runtime.disk import content_digest, write_atomically
from unmask.runtime.resume_manifest import key_of
from unmask.scoring import metrics, scores

logger = logging.getLogger(__name__)

USED = ("train", "validation")  # splits: the first is learned from, the second scores the result
VALIDATION_PAIRS = 400
SAVE_EVERY = 4096  # pictures
WARM_UP_RATIO = 0.05  # of all steps the rate rises: AdamW's moments know little at first
MAX_GRADIENT_NORM = 2.0  # so that one odd batch does not undo many steps
_SCRATCH = ".pretraining-"  # and the run's key: a folder beside the weights
SMOOTHING = 0.98  # of the loss that is shown: about the mean of the last 50 steps

# What the weights come from, beside params and sources: an interrupted run that finds other code
# or other libraries begins afresh.
CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net", "faces/cascade",
    "faces/detector", "faces/torch_cascade", "faces/tracks", "forgeries/blend",
    "forgeries/mesh_hulls", "forgeries/sample", "geometry", "models/backbones",
    "models/frame_net", "models/image_net", "models/pretrain", "models/pretrain_bank",
    "models/pretrain_faces", "scoring/scores", "video/codec_pass", "video/colour", "video/decode",
    "video/endings", "video/failures", "video/frame", "video/light", "video/scale",
    "video/streams", "video/transport",
)  # fmt: skip
PACKAGES = (
    "av", "facenet-pytorch", "fvcore", "numpy", "opencv-python-headless", "pytorchvideo", "torch",
)  # fmt: skip


def fit(
    model: ImageX3D, bank: Bank, state_file: Path, settings: Pretrain
) -> Iterator[tuple[int, float]]:
    """Train the image net in place; yield (pictures seen, smoothed verdict loss) as it goes.

    State is saved to state_file every SAVE_EVERY pictures and taken up from there after an
    interruption. bfloat16 autocast saves time on CPUs that have it; two-dimensional kernels are
    safe there.
    """
    batch, seed, lr = settings.batch_size, settings.seed, settings.lr
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=lr,
    )
    steps = settings.pictures // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=WARM_UP_RATIO, cycle_momentum=False
    )
    first = 0
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["step"]
        logger.info("going on from %d of %d pictures", first * batch, settings.pictures)
    smooth = float("nan")
    per_epoch = len(bank.crops) * 2 // batch
    for step in range(first, steps):
        # Order and cuts depend on (seed, step) alone, so a resumed run sees the same batches.
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(bank.crops))
        pairs = order[place * (batch // 2) : (place + 1) * (batch // 2)]
        frames, labels, masks = bank.batch(pairs, np.random.default_rng([seed, 1, step]))
        torch.manual_seed(seed * 1_000_003 + step)  # dropout
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, mask_logits = model(frames)
        verdict_loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        mask_loss = nn.functional.binary_cross_entropy_with_logits(mask_logits.float(), masks)
        optimizer.zero_grad()
        (verdict_loss + settings.mask_weight * mask_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        loss = float(verdict_loss.detach())
        smooth = loss if smooth != smooth else SMOOTHING * smooth + (1 - SMOOTHING) * loss
        seen = (step + 1) * batch
        if seen % SAVE_EVERY < batch or step + 1 == steps:
            state = {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(), "step": step + 1,
            }  # fmt: skip
            content = io.BytesIO()
            torch.save(state, content)
            write_atomically(state_file, content.getvalue())
        yield seen, smooth


@torch.no_grad()
def score_bank(model: ImageX3D, bank: Bank) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return labels and logits of every picture in the bank, cut at the centre."""
    model.eval()
    labels, logits = [], []
    for first in range(0, len(bank.crops), 16):
        pairs = np.arange(first, min(first + 16, len(bank.crops)))
        frames, label, _ = bank.batch(pairs, None)
        labels.append(label.numpy().astype(np.int64))
        logits.append(model(frames)[0].numpy())
    return np.concatenate(labels), np.concatenate(logits)


# ---------------------------------------------------------------- the whole of it


def count_steps(settings: Pretrain) -> int:
    """Return how often run yields."""
    banks = (settings.pairs, VALIDATION_PAIRS)
    rendered = sum(-(-pairs // RENDERED_AT_ONCE) for pairs in banks)
    return rendered + settings.pictures // settings.batch_size


def run_key(material: Material, settings: Pretrain, detect: Detect, margin_ratio: float) -> str:
    """Return a digest of all that determines the weights: the same key, the same weights.

    A bank or a training state that lies beside the weights is of use for the same key alone: not
    after a change of the params, of the code that renders or trains, of its libraries, of the
    portraits, or of a picture or row of a source that is used. Test people are not.

    Raises:
        DatasetError: sources.csv is not as it should be, or the portraits are not those listed.
    """
    used = [
        (source, content_digest(material.sources / source.file))
        for source in read_sources(material.sources)
        if source.split in USED
    ]
    facts = content_digest(material.mesh_points), read_portraits(material)
    names = {*PACKAGES, on_cpu.library() or "torch"}  # and what finds the faces on this CPU
    libraries = [(name, version(name)) for name in sorted(names)]
    return key_of(settings, detect, margin_ratio, used, facts, libraries, code_digest(*CODE))


def run(
    material: Material,
    weights: Path,
    settings: Pretrain,
    detect: Detect,
    *,
    margin_ratio: float,
    workers: int,
) -> Iterator[None]:
    """Pretrain on the sources' training people and write the weights and their card.

    Portraits, where there are any, are further training people. Validation and test people are
    not seen; validation people only score the result. Banks and the training state lie in a folder
    beside the weights until it is done, so that an interrupted run goes on. Then that folder is
    deleted with all that other interrupted runs have left there: no forged picture remains.
    """
    read_mesh_points(material.mesh_points)  # what is wrong with it is said before any work
    portraits = len(read_portraits(material))
    key = run_key(material, settings, detect, margin_ratio)
    scratch = weights.parent / f"{_SCRATCH}{key[:12]}"
    for seed, (split, pairs) in enumerate(
        zip(USED, (settings.pairs, VALIDATION_PAIRS), strict=True), start=settings.seed
    ):
        done = scratch / split / "done"
        if not done.exists():
            faces = collect_faces(material, split, detect)
            if split == "train":
                faces += collect_portraits(material, detect)
            for _ in render_bank(
                faces, scratch / split, pairs=pairs, margin_ratio=margin_ratio, seed=seed,
                workers=workers,
            ):  # fmt: skip
                yield
            done.touch()
    torch.manual_seed(settings.seed)
    clip_net = backbones.build("x3d_xs", dropout=0.5)
    clip_state = {name: value.clone() for name, value in clip_net.state_dict().items()}
    model = ImageX3D(clip_net).to(memory_format=torch.channels_last)
    bank = Bank(scratch / "train", side_px=settings.side_px)
    for _ in fit(model, bank, scratch / "state.pt", settings):
        yield
    labels, logits = score_bank(model, Bank(scratch / "validation", side_px=settings.side_px))
    save(model, clip_state, weights, settings, labels, logits, portraits=portraits)
    for left in weights.parent.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left)


def save(
    model: ImageX3D,
    clip_state: dict[str, torch.Tensor],
    weights: Path,
    settings: Pretrain,
    labels: npt.NDArray[np.int64],
    logits: Floats,
    *,
    portraits: int,
) -> None:
    """Write the inflated net in half precision, and the card that says what it is.

    Its last layer is divided by the temperature that fits the validation people: a net this sure
    of the few people it has seen would begin fine-tuning with huge losses.
    """
    inflated = inflate(model.net.state_dict(), clip_state)
    temperature = scores.fit_temperature(labels, logits)
    for name in ("blocks.5.proj.weight", "blocks.5.proj.bias"):
        inflated[name] /= temperature
    logits = logits / np.float32(temperature)
    half = {name: value.half() for name, value in inflated.items() if value.is_floating_point()}
    whole = {name: value for name, value in inflated.items() if not value.is_floating_point()}
    write_atomically(weights, to_bytes({**half, **whole}))
    auc = scores.roc_auc(labels, logits)
    loss = metrics.log_loss(labels, scores.sigmoid(logits))
    card = CARD.format(
        pairs=settings.pairs, pictures=settings.pictures, side=settings.side_px,
        count=len(labels), auc=auc, loss=loss, dark=SHARES.dark, coded=SHARES.coded,
        hulls=SHARES.hulls, command="make pretrain PORTRAITS=..." if portraits else "make pretrain",
        origin=f"data/sources and {portraits} portraits" if portraits else "data/sources alone",
        portraits=PORTRAITS.format(portraits=portraits) if portraits else "",
    )  # fmt: skip
    write_atomically(weights.with_suffix(".md"), card)


CARD = """\
# x3d_xs.safetensors: a starting checkpoint

X3D-XS with a two-class head (real, fake), half precision, to be fine-tuned; it is no detector to
rely on. Made by `{command}` from {origin} (params.yaml, section `pretrain`).

- **Learned from** {pairs} rendered pairs of a real face crop and its forgery (self-blending and
  face swap, src/unmask/forgeries/blend.py), {pictures} pictures of {side} px in all, as an image
  net that also predicts where the picture was pasted; then inflated: each kernel stands in its
  middle time slice. Both pictures of a pair have the same light ({dark:.0%} of the pairs are
  darkened), codec ({coded:.0%} are re-encoded heavily by H.264 or MPEG-4) and camera. Where points
  of a face mesh are known, {hulls:.0%} of the masks are hulls of them.
- **People**: of the sample only those whose split is `train` in data/sources/sources.csv. It has
  seen nobody of the sample's validation and test splits, neither as a face nor as a donor.
{portraits}- **Checked on** {count} single pictures of the validation people: AUC {auc:.3f},
  log-loss {loss:.3f}. Pictures come from the same forgers and cameras as the training ones, and
  are as dark and as heavily encoded; expect less in the wild.
- **Knows nothing of time yet**: its answer is the mean over a clip's frames.
- **Licence**: Apache-2.0; the faces are CC BY 4.0, credited in data/sources/ATTRIBUTION.md.
"""
PORTRAITS = """\
- **Portraits**: {portraits} official portraits in the public domain, listed in
  weights/portraits.csv; they are not part of this repository. Each was blended with itself alone,
  never with another person's face, and no picture made from them was kept.
"""
