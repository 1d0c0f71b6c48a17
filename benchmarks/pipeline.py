"""Seconds and peak memory of each stage on the sample, in a fresh clone.

Type: python benchmarks/pipeline.py

Also times inference of x3d_xs in the default memory layout against channels_last_3d, which
backbones.clip_logits relies on.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured
import torch

from unmask.models import backbones

ROOT = Path(__file__).parents[1]
STAGES = ("params", "sample", "raw", "faces", "train", "evaluate", "robustness")


def time_stages(folder: Path) -> None:
    """Clone this repository and print a row for every stage, then for a run with nothing to do."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    print(f"{'stage':10}{'seconds':>10}{'peak MB':>10}")
    for stage in (*STAGES, "nothing"):
        command = [
            "dvc",
            "repro",
            "--quiet",
            *(["--single-item", stage] if stage in STAGES else []),
        ]
        seconds, peak_bytes, _ = measured.run(command, cwd=folder, env=environment)
        print(f"{stage:10}{seconds:10.1f}{peak_bytes / 1e6:10.0f}", flush=True)


@torch.inference_mode()
def time_layouts() -> None:
    """Print clips per second of both layouts, and their ratio."""
    net = backbones.build("x3d_xs", dropout=0.5).eval()
    clips = torch.randn(8, 3, 4, 182, 182)
    rates = {}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        net, clips = net.to(memory_format=layout), clips.contiguous(memory_format=layout)
        net(clips)
        started = time.monotonic()
        for _ in range(5):
            net(clips)
        rates[layout] = 5 * len(clips) / (time.monotonic() - started)
        print(f"x3d_xs, {layout}: {rates[layout]:.1f} clips/s")
    ratio = rates[torch.channels_last_3d] / rates[torch.contiguous_format]
    print(f"channels_last_3d / default: {ratio:.2f}")


if __name__ == "__main__":
    time_layouts()
    with tempfile.TemporaryDirectory() as scratch:
        time_stages(Path(scratch) / "unmask")
