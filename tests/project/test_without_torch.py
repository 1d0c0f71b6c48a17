"""A clip is answered, and its report written, where neither torch nor what trains is installed."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from painted import faces_over_noise

from unmask import params
from unmask.models.backbones import build
from unmask.models.checkpoint import Checkpoint, save
from unmask.scoring.verdicts import NOTHING_LEARNED
from unmask.video.encode import write_video

TRAINING = (
    "torch", "torchvision", "lightning", "pytorchvideo", "facenet_pytorch", "fvcore", "timm",
    "onnx", "matplotlib", "mlflow", "dvc", "pandas", "scipy",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, a clip of two faces that move, and packages that can't be imported."""
    path = tmp_path_factory.mktemp("without")
    for name in TRAINING:
        (path / "blocked" / name).mkdir(parents=True)
        words = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
        (path / "blocked" / name / "__init__.py").write_text(words)
    torch.manual_seed(1)
    net = build("x3d_xs", dropout=0.5)
    with torch.no_grad():
        net(torch.randn(2, 3, 4, 64, 64))
    settings = params.load()
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)
    save(
        path / "model",
        net.eval(),
        Checkpoint(settings.faces, settings.clips, settings.model, 1.5, limits, run_key="none"),
    )
    draw = faces_over_noise(("001_neutral.jpg", 20, 20), ("002_smiling.jpg", 330, 60))
    frames = [draw(n, (640, 360)) for n in range(20)]
    write_video(path / "clip.mp4", frames, rate_fps=10.0, crf=14)
    return path


def ask(folder, *words, blocked):
    places = [*([str(folder / "blocked")] if blocked else []), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "predict", "clip.mp4", "--json", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr  # the model is not calibrated
    return json.loads(done.stdout), done.stderr


def test_the_answer_is_the_same_to_the_last_bit(folder):
    row, said = ask(folder, "--report", "page.html", blocked=True)
    assert len(row["faces"]) == 2
    assert 0 < row["probability"] < 1
    assert "Traceback" not in said
    page = (folder / "page.html").read_text()
    assert "What spoke for a fake" in page
    (folder / "page.html").unlink()
    assert ask(folder, blocked=False)[0] == row


def test_what_needs_torch_says_what_to_install(folder):
    (folder / "model" / "net.onnx").rename(folder / "net.onnx")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / "blocked"), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "predict", "clip.mp4"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (folder / "net.onnx").rename(folder / "model" / "net.onnx")
    assert done.returncode == 1
    assert "torch is not installed" in done.stderr
    assert "pip install 'unmask[train]'" in done.stderr
    assert "Traceback" not in done.stderr
