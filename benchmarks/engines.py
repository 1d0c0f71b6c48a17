"""Clips a second of ours, torch and ONNX Runtime: python benchmarks/engines.py [NET ...].

A net is a backbone, with random weights, or a model's folder: by default x3d_xs,
efficientnet_lite0 and `model`, where it is there. Each has its own clip and all cores. The engines
take turns, five times, and what the median turn gave is printed, with how far logits lie from
torch's.
ONNX Runtime comes with `make install` or `pip install onnxruntime`; its column is empty without it.
"""

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.engine.cores import usable_cores
from unmask.engine.openvino_net import OpenVinoNet
from unmask.geometry import clip_geometry
from unmask.models import backbones, checkpoint
from unmask.models.portable import export

BACKBONES = ("x3d_xs", "efficientnet_lite0")
CLIPS, TURNS = 16, 5
Run = Callable[[], NDArray[np.float32]]


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or [*BACKBONES, *(["model"] if Path("model").is_dir() else [])]
    print(f"{usable_cores()} cores, 32 bit, clips/s (largest distance from torch's logits)\n")
    print("| net | clip | ours (OpenVINO) | torch | ONNX Runtime |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        if Path(name).is_dir():
            net, settings = checkpoint.load(Path(name))
            own = settings.geometry
        else:
            own = clip_geometry(name, frames=None, interval_s=None, side_px=None)
            torch.manual_seed(1)
            net = backbones.build(name, dropout=0.0, side_px=own.side_px).eval()
        shape = (CLIPS, 3, own.frames, own.side_px, own.side_px)
        clips_BCTHW = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
        engines = engines_of(net, own, clips_BCTHW)
        expected = engines["torch"]()
        cells = []
        for engine, seconds in take_turns(engines).items():
            away = np.abs(engines[engine]() - expected).max()
            cells.append(f"{CLIPS / seconds:.1f} ({away:.0e})")
        cells += ["not installed"] * (3 - len(cells))
        print(f"| {name} | {own.frames} x {own.side_px} px | {' | '.join(cells)} |")


def engines_of(
    net: torch.nn.Module, own: object, clips_BCTHW: NDArray[np.float32]
) -> dict[str, Run]:
    """Return what gives the clips' logits, by engine; each has run once."""
    content = export(net, own)
    assert content is not None
    ours = OpenVinoNet(content, threads=usable_cores())
    engines: dict[str, Run] = {
        "ours": lambda: np.array([float(made["logit"]) for made in ours.run(clips_BCTHW)])
    }
    backbones.lay_out_for_cpu(net)

    def by_torch() -> NDArray[np.float32]:
        with torch.inference_mode():
            return backbones.clip_logits(net, torch.from_numpy(clips_BCTHW)).numpy()

    engines["torch"] = by_torch
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else its import writes into the user's home
    try:
        import onnxruntime
    except ModuleNotFoundError:
        pass
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        engines["onnxruntime"] = lambda: session.run(["logit"], {"clips_BCTHW": clips_BCTHW})[0]
    for run in engines.values():
        run()
    return engines


def take_turns(engines: dict[str, Run]) -> dict[str, float]:
    """Return the median seconds of each engine's turns."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(TURNS):
        for name, run in engines.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(turns) for name, turns in seconds.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
