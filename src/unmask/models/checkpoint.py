"""A model's folder: weights, the net in a portable form, and the params that made their input.

Weights alone are loaded, never code.
"""

import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import MALFORMED, WeightsError
from unmask.geometry import Geometry
from unmask.models.adopt.record import (
    Adopted,
    Architecture,
    Start,
    metadata_of,
    origin_from,
)
from unmask.models.net_file import (
    MOST_SETTINGS_BYTES,
    NetFile,
    net_file_from,
    write_net,
)
from unmask.params import Clips, Faces, Model, say_problems
from unmask.runtime.disk import content_digest, read_regular, write_atomically
from unmask.scoring.promises import Promise, promise_from
from unmask.scoring.verdicts import Limits, limits_from
from unmask.timm_facts import Colours

if TYPE_CHECKING:  # importing torch takes seconds, which a reader of settings need not wait
    import torch
    from torch import nn

FORMAT = 5
WEIGHTS, SETTINGS, CARD = "weights.safetensors", "checkpoint.json", "MODEL_CARD.md"
HISTORY = "history.csv"  # the training's epochs


@dataclass(frozen=True)
class Checkpoint:
    """All that turns a video into a probability, but the net itself."""

    faces: Faces
    clips: Clips
    model: Model
    temperature: float  # logits are divided by it: Guo et al., 2017, arXiv:1706.04599, section 4.2
    limits: Limits  # of what its answers can say
    run_key: str  # of the training that made it: resume.training_key
    # Written only where they say something, so that a net of the table has the file it always had.
    colours: Colours | None = None  # of a net of timm's, whose defaults may change
    unit_features: bool = False  # whether the head sees features on the unit sphere
    adopted: Adopted | None = None  # where a net came from that others trained
    began_as: Adopted | Start | None = None  # whose weights a training here started from
    promise: Promise | None = None  # without one it gives scores, and no verdict
    net: NetFile | None = None  # the net without torch; None in a folder that has none

    @property
    def licence(self) -> str | None:
        """Return the terms of weights that others trained, also where a training here went on
        from them; None where there are no such weights."""
        others = self.adopted or self.began_as
        return others.licence.weights if others else None

    @property
    def published(self) -> Architecture | None:
        """Return how others built the net that a training here started from, if they did."""
        return self.began_as.architecture if isinstance(self.began_as, Adopted) else None

    @property
    def geometry(self) -> Geometry:
        """Return the clip that the net was trained on."""
        if self.adopted is None:
            return self.clips.geometry(self.model.backbone)
        clips = self.clips
        assert clips.frames
        assert clips.interval_s
        assert clips.side_px
        return Geometry(clips.frames, clips.interval_s, clips.side_px, clips.brightness)


def save(
    folder: Path, net: "nn.Module", checkpoint: Checkpoint, *, portable: bytes | None = None
) -> None:
    """Write the folder's weights, its portable net and its settings.

    portable is what portable.export made of the net, if that is known already.

    Raises:
        DiskError: the disk takes no more.
    """
    from safetensors.torch import save as to_bytes

    from unmask.models.portable import export

    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    origin = checkpoint.adopted or checkpoint.began_as
    write_atomically(folder / WEIGHTS, to_bytes(state, metadata_of(origin) if origin else None))
    portable = portable or export(net, checkpoint.geometry)
    file = None if portable is None else write_net(folder, portable)
    write_settings(folder, replace(checkpoint, net=file))


def save_start(folder: Path, tensors: "dict[str, torch.Tensor]", start: Start) -> None:
    """Write a folder of weights that a training can start from; it is no model.

    Raises:
        DiskError: the disk takes no more.
    """
    from safetensors.torch import save as to_bytes

    state = {name: value.contiguous() for name, value in tensors.items()}
    write_atomically(folder / WEIGHTS, to_bytes(state, metadata_of(start)))
    settings = {"format": FORMAT, "start": start.model_dump(mode="json")}
    write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def write_settings(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder's settings alone.

    Raises:
        DiskError: the disk takes no more.
    """
    model = checkpoint.model.model_dump(mode="json")
    if checkpoint.colours is not None:
        model["colours"] = asdict(checkpoint.colours)
    if checkpoint.unit_features:
        model["unit_features"] = True
    settings: dict[str, Any] = {
        "format": FORMAT,
        "faces": checkpoint.faces.model_dump(mode="json"),
        "clips": checkpoint.clips.model_dump(mode="json"),
        # What an adopted net is stands in `adopted`; params.yaml can't ask for it.
        "model": None if checkpoint.adopted else model,
        "temperature": checkpoint.temperature,
        "limits": asdict(checkpoint.limits),
        "run_key": checkpoint.run_key,
    }
    if checkpoint.adopted is not None:
        settings["adopted"] = checkpoint.adopted.model_dump(mode="json")
    if checkpoint.began_as is not None:
        settings["began_as"] = checkpoint.began_as.model_dump(mode="json")
    if checkpoint.promise is not None:
        settings["promise"] = asdict(checkpoint.promise)
    if checkpoint.net is not None:
        settings["net"] = asdict(checkpoint.net)
    write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def swap(whole: Path, folder: Path) -> None:
    """Put a whole model in the place of the one in folder: at no moment is a part of one there.

    What was in folder is left beside whole, as `old`.
    """
    if folder.exists():
        old = whole.with_name("old")
        if old.exists():
            shutil.rmtree(old)
        folder.rename(old)
    whole.rename(folder)


def load(folder: Path) -> "tuple[nn.Module, Checkpoint]":
    """Return the net, in eval mode on the CPU, and its settings.

    Raises:
        WeightsError: a file is missing, damaged or of another format.
    """
    checkpoint = read_settings(folder)
    return load_net(folder, checkpoint), checkpoint


def load_net(folder: Path, checkpoint: Checkpoint) -> "nn.Module":
    """Return the net that the settings describe, in eval mode on the CPU.

    Raises:
        ParamsError: the installed timm does not have the net.
        WeightsError: the weights are missing, damaged or another backbone's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from unmask.models import backbones
    from unmask.models.adopt import nets

    remedy = "Run `dvc repro`, or `dvc checkout` to take it from the cache."
    try:
        if checkpoint.adopted is not None:
            remedy = "Adopt it again."
            return nets.load(folder / WEIGHTS, checkpoint.adopted.architecture)
        net = backbones.build(
            checkpoint.model.backbone, dropout=checkpoint.model.dropout,
            side_px=checkpoint.geometry.side_px, colours=checkpoint.colours,
            unit_features=checkpoint.unit_features, published=checkpoint.published,
        )  # fmt: skip
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"{folder / WEIGHTS} should hold the weights of {checkpoint.model.backbone}: {error}. "
            f"{remedy}"
        ) from error
    return net.eval()


def read_settings(folder: Path) -> Checkpoint:
    """Return what the folder says of its weights, without reading them.

    Raises:
        WeightsError: the file is missing, damaged or of another format.
    """
    path = folder / SETTINGS
    try:
        values: dict[str, Any] = json.loads(read_regular(path, MOST_SETTINGS_BYTES))
        if values["format"] != FORMAT:
            raise WeightsError(
                f"{path} has format {values['format']}; this version reads {FORMAT}. "
                "Use the version that wrote it, or train again."
            )
        if "start" in values:
            start = Start.model_validate(values["start"])
            raise WeightsError(
                f"Asked for the model in {folder}; it is {start.title}, which has no head of real "
                f"and fake: a training starts from it. Set model.backbone to {start.backbone} and "
                f"model.weights to {folder}, and run `dvc repro`."
            )
        adopted = (
            None if values.get("adopted") is None else Adopted.model_validate(values["adopted"])
        )
        began_as = None if values.get("began_as") is None else origin_from(values["began_as"])
        # A model of before this setting saw clips as they were.
        clips = Clips.model_validate({"brightness": None, **values["clips"]})
        if adopted and None in (clips.frames, clips.interval_s, clips.side_px):
            raise ValueError(
                "an adopted net needs clips.frames, clips.interval_s and clips.side_px"
            )
        model = {} if adopted else dict(values["model"])
        colours, unit_features = model.pop("colours", None), model.pop("unit_features", False)
        return Checkpoint(
            faces=Faces.model_validate(values["faces"]),
            clips=clips,
            model=adopted_model(adopted) if adopted else Model.model_validate(model),
            temperature=_temperature(values["temperature"]),
            limits=limits_from(values["limits"]),
            run_key=_run_key(values["run_key"]),
            adopted=adopted,
            began_as=began_as,
            colours=None if colours is None else _colours(colours),
            unit_features=_yes_or_no(unit_features),
            promise=promise_from(values.get("promise")),
            net=net_file_from(values.get("net")),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WeightsError(
            f"Asked for the model in {folder}; {path} is not there. Run `make repro` to train one, "
            "or `dvc pull model` to fetch it."
        ) from error
    except (OSError, *MALFORMED) as error:
        raise WeightsError(
            f"{path} is not a model's settings: {say_problems(error):.500}. Run `dvc repro` to "
            "make it again."
        ) from error


def check_crops(checkpoint: Checkpoint, faces: Faces) -> None:
    """Pass if crops that were made with these params are those that the net expects.

    A net that was trained here saw such crops; one that others trained may want them otherwise.

    Raises:
        WeightsError: it does.
    """
    own = checkpoint.faces
    if checkpoint.adopted is None or own == faces:
        return
    raise WeightsError(
        f"{checkpoint.adopted.title} expects faces of {own.side_px} px with a margin of "
        f"{own.margin_ratio:g}; these crops were made with {faces.side_px} px and "
        f"{faces.margin_ratio:g}, or otherwise differ in the section faces. Set that section of "
        "params.yaml to what the model's checkpoint.json has, and run `dvc repro faces`."
    )


def adopted_model(adopted: Adopted) -> Model:
    """Return the section `model` of an adopted net: names for people, which nothing is built from.

    No params.yaml can name such a backbone, so it is not checked against theirs.
    """
    return Model.model_construct(
        backbone=adopted.architecture.net, weights=adopted.source, weights_sha256=adopted.sha256,
        dropout=0.0,
    )  # fmt: skip


def check_promise(folder: Path, checkpoint: Checkpoint) -> None:
    """Pass if the model's promise, where it has one, was learned with the folder's weights.

    Raises:
        WeightsError: it was learned with others.
    """
    weights = folder / WEIGHTS
    if checkpoint.promise is None or not weights.is_file():
        return
    if content_digest(weights) != checkpoint.promise.weights_sha256:
        raise WeightsError(
            f"Asked for the model in {folder}; its promise was learned with other weights than "
            f"{WEIGHTS} holds. Run `unmask calibrate` again, or take the promise away with "
            "`unmask calibrate --undo`."
        )


def _temperature(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"temperature should be a number above 0; found {value!r:.80}")
    return float(value)


def _colours(value: Any) -> Colours:
    if not isinstance(value, dict) or set(value) != {"mean", "deviation"}:
        raise ValueError(f"model.colours should have a mean and a deviation; found {value!r:.200}")
    found = [value["mean"], value["deviation"]]
    numbers = [number for triple in found for number in triple]
    if (
        any(len(triple) != 3 for triple in found)
        or not all(type(number) is float and math.isfinite(number) for number in numbers)
        or min(found[1]) <= 0
    ):
        raise ValueError(
            "model.colours should be the mean and the deviation of red, green and blue, the latter "
            f"above 0; found {value!r:.200}"
        )
    return Colours(mean=tuple(found[0]), deviation=tuple(found[1]))


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"model.unit_features should be true or false; found {value!r:.80}")
    return value


def _run_key(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise ValueError(f"run_key should be a line of text; found {value!r:.80}")
    return value
