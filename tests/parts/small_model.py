"""A model's folder in a few kilobytes, with all files that a real one has. It answers nothing."""

import hashlib
import json
from pathlib import Path

import numpy as np
from promised import PROMISE
from safetensors.numpy import save_file

from unmask.models.checkpoint import FORMAT
from unmask.scoring.unlike import QUALITIES

CARD = "---\nlicense: apache-2.0\nlibrary_name: unmask\n---\n\n# A small model\n\nFor tests.\n"
NO_FREE_LICENCE = {"code": "MIT", "weights": "research only", "free": False, "why": "So it says."}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_small_model(
    folder: Path, *, seed: int = 1, licence: dict | None = None, calibrated: bool = False
) -> Path:
    """Write a model of a trained X3D; with a licence, one that others trained."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(seed).normal(size=(20, 20)).astype(np.float32)
    save_file({"blocks.0.weight": weights}, folder / "weights.safetensors")
    (folder / "net.onnx").write_bytes(b"\x08\x0a" + weights.tobytes()[:500])
    settings = {
        "format": FORMAT,
        "faces": {
            "rate_fps": 10.0, "side_px": 256, "margin_ratio": 0.1, "crf": 14,
            "detect": {
                "max_side_px": 640, "min_face_px": 24, "thresholds": [0.6, 0.7, 0.7],
                "min_score": 0.9,
            },
            "detect_every_s": 1.0, "smooth_s": 0.3, "min_track_s": 1.2, "max_gap_s": 0.7,
            "min_overlap": 0.3, "max_failed_ratio": 0.5, "stall_s": 60.0,
        },
        "clips": {
            "frames": None, "interval_s": None, "side_px": None, "brightness": None,
            "max_per_track": 100, "stretch_s": 3.0, "max_padding_ratio": 0.6,
        },
        "model": {"backbone": "x3d_xs", "weights": "none", "weights_sha256": None, "dropout": 0.5},
        "temperature": 1.5,
        "limits": {
            "fake_from": 0.8, "real_to": 0.4, "min_face_px": 72.0, "min_track_s": 1.2,
            "min_sharpness": 0.02, "max_sharpness": 0.3, "min_brightness": 0.2,
            "max_brightness": 0.7, "max_error_ratio": 0.1, "reals": 16, "fakes": 16, "tracks": 132,
            "stretches": [],
        },
        "run_key": f"key-{seed}",
        "net": {
            "sha256": sha256(folder / "net.onnx"),
            "weights_sha256": sha256(folder / "weights.safetensors"),
        },
    }  # fmt: skip
    if licence is not None:
        settings["began_as"] = {
            "adapter": "x3d-xs-kinetics", "title": "FAIR's X3D-XS", "source": "X3D_XS.pyth",
            "commit": None, "file": "X3D_XS.pyth", "sha256": "ab" * 32, "licence": licence,
            "licence_accepted": True, "trained_on": "Kinetics", "backbone": "x3d_xs",
        }  # fmt: skip
    (folder / "MODEL_CARD.md").write_text(CARD)
    if calibrated:
        kept = folder / "calibration"
        kept.mkdir()
        (kept / "checkpoint.json").write_text(json.dumps(settings))
        (kept / "MODEL_CARD.md").write_text(CARD)
        save_file(
            {
                "qualities_NQ": np.zeros((2, len(QUALITIES))),
                "codecs": np.frombuffer(b'["h264", "h264"]', np.uint8),
            },
            kept / "looks.safetensors",
        )
        settings["promise"] = {
            **{name: getattr(PROMISE, name) for name in PROMISE.__dataclass_fields__},
            "weights_sha256": sha256(folder / "weights.safetensors"),
            "looks_sha256": sha256(kept / "looks.safetensors"),
        }
    (folder / "checkpoint.json").write_text(json.dumps(settings, indent=2) + "\n")
    return folder
