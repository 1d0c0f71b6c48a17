"""A model's checkpoint.json: a stranger's settings, and the limits of its verdicts."""

import json
import math
from dataclasses import asdict
from typing import Any

from fuzz.folder import make, put
from unmask import params
from unmask.errors import UnmaskError
from unmask.models import checkpoint
from unmask.scoring import verdicts

_FOLDER = make()
_LIMITS = verdicts.Limits(0.7, 0.2, 40.0, 1.0, 0.01, 9.0, 0.1, 0.9, 0.1, 16, 16, 40)
_PARAMS = params.load()  # of this checkout: `make fuzz` runs at its top
_VALUES: dict[str, Any] = {
    "format": checkpoint.FORMAT,
    "faces": _PARAMS.faces.model_dump(mode="json"),
    "clips": _PARAMS.clips.model_dump(mode="json"),
    "model": _PARAMS.model.model_dump(mode="json"),
    "temperature": 1.5,
    "limits": asdict(_LIMITS),
    "run_key": "0" * 64,
}
SETTINGS = json.dumps(_VALUES).encode()
_ARCHITECTURE: dict[str, Any] = {
    "net": "vit_small_patch16_384", "options": {"img_size": 224}, "outputs": 2, "fake": [1],
    "on_unit_sphere": True, "mean": [0.5, 0.5, 0.5], "deviation": [0.5, 0.5, 0.5],
    "channels": "rgb", "pooling": "probabilities", "padded_for_px": None, "stem_padding": True,
}  # fmt: skip
ADOPTED: dict[str, Any] = {
    "adapter": "gend-clip-l-14", "title": "GenD", "source": "hf:a/b", "commit": "0" * 40,
    "file": "model.safetensors", "sha256": "0" * 64,
    "licence": {"code": "MIT", "weights": "MIT", "free": True, "why": ""},
    "licence_accepted": False, "trained_on": "", "architecture": _ARCHITECTURE,
}  # fmt: skip
_OTHERS = _VALUES | {
    "model": None, "adopted": ADOPTED,
    "clips": _VALUES["clips"] | {"frames": 4, "interval_s": 0.4, "side_px": 224},
}  # fmt: skip
_COLD: list[Any] = [0, -1, "nan", 10**400]
_LIMITLESS: list[Any] = [[], {}, "", {"fake_from": "x"}]
SEEDS = [
    SETTINGS,
    *(json.dumps(_VALUES | {key: None}).encode() for key in _VALUES),
    *(json.dumps(_VALUES | {"temperature": odd}).encode() for odd in _COLD),
    *(json.dumps(_VALUES | {"limits": odd}).encode() for odd in _LIMITLESS),
    json.dumps(_VALUES | {"limits": asdict(_LIMITS) | {"reals": 10**400}}).encode(),
    SETTINGS.replace(b"1.5", b"[" * 2000),
    json.dumps(_OTHERS).encode(),
    json.dumps(_OTHERS | {"clips": _VALUES["clips"]}).encode(),  # of no known backbone
    *(json.dumps(_OTHERS | {"adopted": ADOPTED | {key: 10**400}}).encode() for key in ADOPTED),
    b"[]",
    b"\xff",
]
_SECTIONS = (_VALUES, asdict(_LIMITS), *(_VALUES[name] for name in ("faces", "clips", "model")))
_SECTIONS += (ADOPTED, _ARCHITECTURE)
TOKENS = [f'"{name}"' for section in _SECTIONS for name in section]
TOKENS += ["null", "true", "NaN", "Infinity", "1e999"]


def read(data: bytes) -> None:
    """Read the settings; check what verdicts rest on."""
    put(_FOLDER / "checkpoint.json", data)
    try:
        found = checkpoint.read_settings(put(_FOLDER / "checkpoint.json", data).parent)
    except UnmaskError:
        return
    assert 0 < found.temperature < math.inf, f"a temperature of {found.temperature}"
    assert found.geometry.frames > 0, f"a clip of {found.geometry.frames} frames"
    assert isinstance(found.run_key, str), f"the run's key {found.run_key!r}"
    look = verdicts.FaceQuality(face_px=100.0, track_s=2.0, sharpness=1.0, brightness=0.5)
    part = verdicts.Part(start_s=0.0, end_s=2.0, probability=0.5, count=1, moment=0.5)
    verdicts.judge(0.5, part, look, found.limits)
    verdicts.strictest([found.limits, _LIMITS])
