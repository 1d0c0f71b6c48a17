"""Whether a training's batch fits into memory, before anything is trained. Imports no torch but for
a net of timm's, whose needs are found by laying out a step of it.
"""

from unmask.errors import ParamsError
from unmask.geometry import table_pixel_bytes, training_bytes
from unmask.params import Clips, Model, Train
from unmask.timm_facts import is_timm

_LEARNS = {
    "layernorm": "the norms and the head",
    "head": "the head",
    "all": "all layers",
}


def pixel_bytes(clips: Clips, model: Model, train: Train) -> float:
    """Return the bytes that a training step takes at least for one pixel of one frame, in 32 bit.

    Raises:
        ParamsError: the backbone is a net of timm's that can't be built so.
    """
    if not is_timm(model.backbone):
        return table_pixel_bytes(model.backbone, train.tune, train.unfreeze_top_layers)
    from unmask.models.fake_step import timm_pixel_bytes

    return timm_pixel_bytes(clips, model, train)


def check_memory(
    clips: Clips, model: Model, train: Train, *, available_bytes: int, bytes_per_value: int = 4
) -> None:
    """Refuse a batch that can't fit into memory.

    Raises:
        ParamsError: it can't; the message names the largest batch that may. Or the backbone can't
            be built.
    """
    geometry = clips.geometry(model.backbone)
    each = pixel_bytes(clips, model, train)

    def needed_bytes(batch_size: int) -> int:
        return training_bytes(each, geometry, batch_size, bytes_per_value=bytes_per_value)

    needed = needed_bytes(train.batch_size)
    if needed <= available_bytes:
        return
    largest = available_bytes // needed_bytes(1)
    advice = f"Set it to {largest} at most" if largest else "Set clips.frames or clips.side_px"
    learns = _LEARNS.get(train.tune, f"{train.unfreeze_top_layers} top layers")
    fewer = "unfreeze fewer layers" if train.tune == "milestones" else "set train.tune to head"
    raise ParamsError(
        f"train.batch_size asks for {train.batch_size} clips of {geometry.frames} frames of "
        f"{geometry.side_px} px at once: training {learns} on them takes "
        f"{needed / 2**30:.1f} GiB of memory, of which this machine has "
        f"{available_bytes / 2**30:.1f}. {advice}, {fewer}, or use another machine."
    )
