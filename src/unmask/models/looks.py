"""The file in a model's folder that says what the videos look like that it was calibrated on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from unmask.errors import MALFORMED, WeightsError
from unmask.runtime.digests import CALIBRATION
from unmask.runtime.disk import read_regular
from unmask.scoring.unlike import QUALITIES, Look

FOLDER = CALIBRATION  # in a model's folder: what calibrating adds to it, and what it replaced
LOOKS = "looks.safetensors"
MOST = 1000  # looks that are kept: each face that is asked about is compared with all of them
_MOST_BYTES = 2**24


def to_bytes(looks: Sequence[Look]) -> bytes:
    """Return the content of the file."""
    tensors: dict[str, NDArray[Any]] = {
        "qualities_NQ": np.stack([look.qualities_Q for look in looks]).astype(np.float64),
        "codecs": np.frombuffer(json.dumps([look.codec for look in looks]).encode(), np.uint8),
    }
    features = [look.features_D for look in looks if look.features_D is not None]
    if len(features) == len(looks):
        tensors["features_ND"] = np.stack(features).astype(np.float32)
    return bytes(save(tensors))


def read(model_dir: Path, sha256: str) -> list[Look]:
    """Return the looks that a model's folder keeps, if their file has that digest.

    Raises:
        WeightsError: the file is missing, damaged or another one.
    """
    path = model_dir / FOLDER / LOOKS
    try:
        content = read_regular(path, _MOST_BYTES)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it has another digest than checkpoint.json says")
        tensors = load(content)
        codecs = json.loads(tensors["codecs"].tobytes())
        qualities_NQ, features_ND = tensors["qualities_NQ"], tensors.get("features_ND")
        if len(codecs) > MOST:
            raise ValueError(f"it has {len(codecs):,} looks; {MOST:,} are the most")
        if qualities_NQ.shape != (len(codecs), len(QUALITIES)):
            raise ValueError(f"it has numbers of the shape {qualities_NQ.shape}")
        if features_ND is not None and len(features_ND) != len(codecs):
            raise ValueError("it has features of another number of videos")
    except (OSError, SafetensorError, *MALFORMED) as error:
        raise WeightsError(
            f"Asked for what the model in {model_dir} was calibrated on; {path}: {error}. Run "
            "`unmask calibrate` again, or take its calibration away with `unmask calibrate --undo`."
        ) from error
    return [
        Look(
            np.asarray(qualities_NQ[place], np.float64),
            None if features_ND is None else np.asarray(features_ND[place], np.float64),
            str(codec),
        )
        for place, codec in enumerate(codecs)
    ]
