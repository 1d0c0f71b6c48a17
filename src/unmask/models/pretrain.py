"""A starting checkpoint for X3D, learned from open faces alone.

X3D from random weights learns nothing from a few hundred clips. So its spatial half is trained
first, as an image net on many rendered pairs of a real face and its forgery, with dense
supervision: beside the verdict it predicts where the picture was pasted (Li et al., "Face X-ray",
CVPR 2020, section 3). The image net is X3D with every kernel cut to its middle time slice; put
back into that slice, with zeros around it, the kernels make a clip net that answers as the image
net does, averaged over time ("inflation", Carreira & Zisserman, CVPR 2017, section 2.1, in the
centred form). Time is learned from there by fine-tuning.
"""

import hashlib
import io
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from fvcore.nn.squeeze_excitation import SqueezeExcitation
from safetensors.torch import save as to_bytes
from torch import nn

from unmask.errors import DatasetError
from unmask.faces.detector import Detector
from unmask.forgeries.blend import METHODS, Floats, Image, draw_recipe, forge_frame
from unmask.forgeries.sample import draw_camera_path, film, largest, read_sources, read_still
from unmask.models import backbones
from unmask.params import Detect, Pretrain
from unmask.runtime.disk import write_atomically
from unmask.runtime.processes import run_jobs
from unmask.scoring import metrics, scores
from unmask.video.decode import read_frames

logger = logging.getLogger(__name__)

BANK_PX = 176  # pictures are kept this large, and cut to the training side at random
MASK_STEP = 4  # the bank keeps one mask value for 4 x 4 pixels
RENDERED_AT_ONCE = 50  # pairs in one job
VALIDATION_PAIRS = 400
SAVE_EVERY = 4096  # pictures
VIDEO_STEP = 6  # of a genuine video every sixth frame is used
MASK_STRIDE = 16  # of X3D's fourth stage, where the mask is predicted


@dataclass(frozen=True)
class BaseFace:
    """A real picture with one face: what forgeries are made from."""

    picture_HWC: Image
    points_52: Floats
    box_xyxy: Floats
    person: str
    still: bool


# ---------------------------------------------------------------- the bank of pairs


def render_pair(
    faces: list[BaseFace], margin_ratio: float, rng: np.random.Generator
) -> tuple[Image, Floats]:
    """Return a real crop and its forgery (2, BANK_PX, BANK_PX, 3), and the forgery's mask."""
    stills = [f for f in faces if f.still]
    others = [f for f in faces if not f.still]
    pool = others if others and (not stills or rng.random() < 0.25) else stills
    base = pool[rng.integers(len(pool))]
    donors = [f for f in faces if f.person != base.person]
    if base.still:
        path, time_s = draw_camera_path(rng), float(rng.uniform(0, 3))
        centre = base.points_52.mean(axis=0)
        matrix = path.matrix((float(centre[0]), float(centre[1])), time_s)
        real = film(base.picture_HWC, matrix)
        points = (base.points_52 @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        corners = base.box_xyxy.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        box = corners.reshape(4).astype(np.float32)
    else:
        path, time_s = None, 0.0
        real, points, box = base.picture_HWC, base.points_52, base.box_xyxy
    method = METHODS[rng.integers(len(METHODS))]
    donor = donors[rng.integers(len(donors))] if method == "face_swap" else None
    fake, mask = forge_frame(
        real, points, draw_recipe(method, rng), rng,
        donor=None if donor is None else (donor.picture_HWC, donor.points_52),
    )  # fmt: skip

    centre_xy = (box[:2] + box[2:]) / 2
    side = float(max(box[2] - box[0], box[3] - box[1])) * (1 + 2 * margin_ratio)
    side *= float(rng.uniform(0.94, 1.08))
    centre_xy = centre_xy + rng.normal(0, 0.02, 2) * side
    scale = BANK_PX / side
    to_bank = np.array(
        [
            [scale, 0, BANK_PX / 2 - scale * centre_xy[0]],
            [0, scale, BANK_PX / 2 - scale * centre_xy[1]],
        ]
    )
    qualities = [int(rng.integers(50, 93)), int(rng.integers(80, 97))]
    crops = np.empty((2, BANK_PX, BANK_PX, 3), np.uint8)
    for index, frame in enumerate((real, fake)):
        shot = frame if path is None else path.expose(frame, time_s, rng)
        soft = cv2.GaussianBlur(shot, (0, 0), 0.4 * (1 / scale - 1)) if scale < 0.85 else shot
        crop = cv2.warpAffine(
            _jpeg(soft, qualities[0]), to_bank, (BANK_PX, BANK_PX),
            flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT,
        )  # fmt: skip
        crops[index] = _jpeg(crop, qualities[1])
    mask_px = BANK_PX // MASK_STEP
    small = cv2.warpAffine(mask, to_bank, (BANK_PX, BANK_PX))
    return crops, cv2.resize(small, (mask_px, mask_px), interpolation=cv2.INTER_AREA)


def _jpeg(picture_HWC: Image, quality: int) -> Image:
    # Stands in for H.264 within a frame: the bank has no neighbours to predict from.
    _, data = cv2.imencode(".jpg", picture_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


_FACES: list[BaseFace] = []


def _start_worker(faces: list[BaseFace]) -> None:
    cv2.setNumThreads(1)
    _FACES[:] = faces


def _render_many(
    margin_ratio: float, seed: int, indices: range
) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    crops, masks = [], []
    for index in indices:
        crop, mask = render_pair(_FACES, margin_ratio, np.random.default_rng([seed, index]))
        crops.append(crop)
        masks.append(np.clip(np.round(mask * 255), 0, 255).astype(np.uint8))
    return indices.start, np.stack(crops), np.stack(masks)


def _refuse_crash(indices: range) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    raise DatasetError(
        f"Asked for the pairs {indices.start} to {indices.stop - 1}, but the process that renders "
        "them was killed. Memory may have run out: close other programs, and run it again."
    )


def render_bank(
    faces: list[BaseFace], folder: Path, *, pairs: int, margin_ratio: float, seed: int, workers: int
) -> Iterator[int]:
    """Write folder/crops.npy (pairs, 2, H, W, 3) and masks.npy; yield after every RENDERED_AT_ONCE.

    Pair i depends on (seed, i) alone, so the bank is the same whatever the workers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mask_px = BANK_PX // MASK_STEP
    crops = np.lib.format.open_memmap(
        folder / "crops.npy", "w+", np.uint8, (pairs, 2, BANK_PX, BANK_PX, 3)
    )
    masks = np.lib.format.open_memmap(
        folder / "masks.npy", "w+", np.uint8, (pairs, mask_px, mask_px)
    )
    jobs = [
        range(first, min(first + RENDERED_AT_ONCE, pairs))
        for first in range(0, pairs, RENDERED_AT_ONCE)
    ]
    rendered = run_jobs(
        jobs, partial(_render_many, margin_ratio, seed), partial(_start_worker, faces), workers,
        crashed=_refuse_crash,
    )  # fmt: skip
    for first, some_crops, some_masks in rendered:
        crops[first : first + len(some_crops)] = some_crops
        masks[first : first + len(some_masks)] = some_masks
        yield first


# ---------------------------------------------------------------- the image net


class _SpatialExcitation(nn.Module):
    """fvcore's squeeze and excitation averages over three axes by number; a picture has two."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.block(x.mean((2, 3), keepdim=True))
        return x * gate


def to_image_net(module: nn.Module) -> nn.Module:
    """Turn a clip net into the image net of its middle time slices, in place, and return it."""
    for name, child in list(module.named_children()):
        if isinstance(child, SqueezeExcitation):
            to_image_net(child.block)
            setattr(module, name, _SpatialExcitation(child.block))
        elif isinstance(child, nn.Conv3d):
            assert isinstance(child.padding, tuple)
            (_, high, wide), (_, down, right) = child.kernel_size, child.stride
            flat = nn.Conv2d(
                child.in_channels, child.out_channels, (high, wide), (down, right),
                (child.padding[1], child.padding[2]),
                groups=child.groups, bias=child.bias is not None,
            )  # fmt: skip
            flat.weight.data = child.weight.data[:, :, child.kernel_size[0] // 2].clone()
            if child.bias is not None and flat.bias is not None:
                flat.bias.data = child.bias.data.clone()
            setattr(module, name, flat)
        elif isinstance(child, nn.BatchNorm3d):
            norm = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            to_image_net(child)
    return module


def inflate(
    image_state: dict[str, torch.Tensor], clip_state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return clip_state with the image net's kernels in its middle time slices, zeros around."""
    inflated = {}
    for name, value in clip_state.items():
        flat = image_state[name]
        if flat.ndim + 1 == value.ndim:
            full = torch.zeros_like(value)
            full[:, :, value.shape[2] // 2] = flat
            inflated[name] = full
        else:
            assert flat.shape == value.shape, name
            inflated[name] = flat.clone()
    return inflated


class ImageX3D(nn.Module):
    """X3D as an image net, with a second output: where the picture was pasted."""

    def __init__(self, clip_net: nn.Module) -> None:
        super().__init__()
        stage = backbones.blocks(clip_net)[3]
        width = stage.res_blocks[-1].branch2.conv_c.out_channels
        self.net = to_image_net(clip_net)
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, pictures_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (verdict logits (B,), mask logits (B, H / 16, W / 16))."""
        x = pictures_BCHW
        *body, head = backbones.blocks(self.net)
        for index, block in enumerate(body):
            x = block(x)
            if index == 3:
                mask_logits = self.mask(x)[:, 0]
        x = head.pool.pre_act(head.pool.pre_norm(head.pool.pre_conv(x)))
        x = head.pool.post_act(head.pool.post_conv(x.mean((2, 3), keepdim=True)))
        logits_B2 = head.proj(head.dropout(x.flatten(1)))
        return logits_B2[:, 1] - logits_B2[:, 0], mask_logits


class Bank:
    """Random batches, cut and flipped, from a rendered bank held in memory-mapped files."""

    def __init__(self, folder: Path, *, side_px: int) -> None:
        self.crops = np.load(folder / "crops.npy", mmap_mode="r")
        self.masks = np.load(folder / "masks.npy", mmap_mode="r")
        self.side_px = side_px

    def batch(
        self, pairs: npt.NDArray[np.int64], rng: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return normalised pictures (2B, 3, H, W), labels (2B,) and masks (2B, H/16, W/16).

        Both pictures of a pair are cut and flipped alike; rng None takes the centre, unflipped.
        """
        spare = (BANK_PX - self.side_px) // MASK_STEP
        pictures, masks = [], []
        for pair in pairs:
            top, left = (spare // 2, spare // 2) if rng is None else rng.integers(0, spare + 1, 2)
            flip = rng is not None and rng.random() < 0.5
            y, x, side = top * MASK_STEP, left * MASK_STEP, self.side_px
            crop = self.crops[pair, :, y : y + side, x : x + side]
            mask = self.masks[pair, top : top + side // MASK_STEP, left : left + side // MASK_STEP]
            pictures.append(crop[:, :, ::-1] if flip else crop)
            masks.append(mask[:, ::-1] if flip else mask)
        frames = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2)
        frames_BCHW = (frames.float() / 255 - 0.45) / 0.225  # X3D's Kinetics mean and deviation
        fine = torch.from_numpy(np.stack(masks)).float()[:, None] / 255
        coarse = nn.functional.avg_pool2d(fine, MASK_STRIDE // MASK_STEP)[:, 0]
        masks_BHW = torch.stack([torch.zeros_like(coarse), coarse], dim=1).flatten(0, 1)
        labels_B = torch.tensor([0.0, 1.0]).repeat(len(pairs))
        return frames_BCHW.contiguous(memory_format=torch.channels_last), labels_B, masks_BHW


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
        optimizer, lr, total_steps=steps, pct_start=0.05, cycle_momentum=False
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
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        loss = float(verdict_loss.detach())
        smooth = loss if smooth != smooth else 0.98 * smooth + 0.02 * loss
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


def collect_faces(sources_dir: Path, split: str, detect: Detect) -> list[BaseFace]:
    """Return the split's stills, and every VIDEO_STEP-th frame of its videos, with their faces."""
    detector = Detector(detect)
    faces = []
    for source in read_sources(sources_dir):
        if source.split != split:
            continue
        path = sources_dir / source.file
        pictures = (
            [read_still(path)]
            if source.is_still
            else [f.rgb_HWC() for i, f in enumerate(read_frames(path)) if i % VIDEO_STEP == 0]
        )
        for picture in pictures:
            [found] = detector.detect([picture])
            if found:
                face = largest(found)
                points = np.asarray(face.points_52, np.float32)
                box = np.asarray(face.box_xyxy, np.float32)
                faces.append(BaseFace(picture, points, box, source.person, source.is_still))
    return faces


def count_steps(settings: Pretrain) -> int:
    """Return how often run yields."""
    banks = (settings.pairs, VALIDATION_PAIRS)
    rendered = sum(-(-pairs // RENDERED_AT_ONCE) for pairs in banks)
    return rendered + settings.pictures // settings.batch_size


def run(
    sources_dir: Path,
    weights: Path,
    settings: Pretrain,
    detect: Detect,
    *,
    margin_ratio: float,
    workers: int,
) -> Iterator[None]:
    """Pretrain on the sources' training people and write the weights and their card.

    Validation and test people are not seen; validation people only score the result. Banks and
    the training state lie in a folder beside the weights until it is done, so that an interrupted
    run goes on.
    """
    # By settings: a bank or a state of other values must not be taken up.
    digest = hashlib.sha256(f"{settings} {detect} {margin_ratio}".encode()).hexdigest()
    scratch = weights.parent / f".pretraining-{digest[:12]}"
    for seed, (split, pairs) in enumerate(
        (("train", settings.pairs), ("validation", VALIDATION_PAIRS)), start=settings.seed
    ):
        done = scratch / split / "done"
        if not done.exists():
            faces = collect_faces(sources_dir, split, detect)
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
    save(model, clip_state, weights, settings, labels, logits)
    shutil.rmtree(scratch)


def save(
    model: ImageX3D,
    clip_state: dict[str, torch.Tensor],
    weights: Path,
    settings: Pretrain,
    labels: npt.NDArray[np.int64],
    logits: Floats,
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
        count=len(labels), auc=auc, loss=loss,
    )  # fmt: skip
    write_atomically(weights.with_suffix(".md"), card)


CARD = """\
# x3d_xs.safetensors: a starting checkpoint

X3D-XS with a two-class head (real, fake), half precision, to be fine-tuned; it is no detector to
rely on. Made by `make pretrain` from data/sources alone (params.yaml, section `pretrain`).

- **Learned from** {pairs} rendered pairs of a real face crop and its forgery (self-blending and
  face swap, src/unmask/forgeries/blend.py), {pictures} pictures of {side} px in all, as an image
  net that also predicts where the picture was pasted; then inflated: each kernel stands in its
  middle time slice.
- **People**: only those whose split is `train` in data/sources/sources.csv. It has seen nobody
  of the sample's validation and test splits, neither as a face nor as a donor.
- **Checked on** {count} single pictures of the validation people: AUC {auc:.3f}, log-loss
  {loss:.3f}. Pictures come from the same forgers and cameras as the training ones;
  expect less in the wild.
- **Knows nothing of time yet**: its answer is the mean over a clip's frames.
- **Licence**: Apache-2.0; the faces are CC BY 4.0, credited in data/sources/ATTRIBUTION.md.
"""
