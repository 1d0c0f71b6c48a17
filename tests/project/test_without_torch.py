"""A clip is answered, and its report written, where neither torch nor what trains is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from painted import faces_over_noise

from unmask import params
from unmask.answers.file_says import Credentials, FileSays, State
from unmask.faces.files import crop_file
from unmask.models.backbones import build
from unmask.models.checkpoint import Checkpoint, save
from unmask.models.predict import Predictor
from unmask.scoring.verdicts import NOTHING_LEARNED
from unmask.serve.inference import Settings, Task, _InferenceWorker
from unmask.timm_facts import timm_facts
from unmask.tracking import mlflow_tracker
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


PYFUNC = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
[row] = model.predict([{"path": sys.argv[2]}]).to_dict("records")
print(row["probability"].hex(), "torch" in sys.modules, "lightning" in sys.modules)
"""


def test_mlflows_model_answers_with_the_same_bits(folder, tmp_path):
    """Where neither torch nor what trains can be imported; MLflow alone is installed beside."""
    row, _ = ask(folder, blocked=False)
    logged = SimpleNamespace(artifact_location=str(tmp_path), model_id="m-1")
    saved = tmp_path / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's of its own types
        mlflow_tracker._save_pyfunc(folder / "model", saved, logged, "run")
    requirements = (saved / "requirements.txt").read_text().split()
    assert {re.split("[=<>]", line)[0] for line in requirements} == {"mlflow", "unmask"}
    blocked = tmp_path / "blocked"
    for name in set(TRAINING) - {"mlflow", "pandas", "scipy", "matplotlib"}:
        shutil.copytree(folder / "blocked" / name, blocked / name)
    done = subprocess.run(
        [sys.executable, "-c", PYFUNC, str(saved), str(folder / "clip.mp4")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), *sys.path])},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [row["probability"].hex(), "False", "False"]


@pytest.mark.parametrize("threads", [1, 3])
def test_serve_and_evaluate_give_the_same_bits(folder, tmp_path, monkeypatch, threads):
    row, _ = ask(folder, blocked=False)
    model, clip = folder / "model", folder / "clip.mp4"
    (tmp_path / "job").mkdir()
    shutil.copy(clip, tmp_path / "job" / "video.mp4")
    monkeypatch.setenv("TMPDIR", "")  # the worker sets it, and the next attribute
    monkeypatch.setattr(tempfile, "tempdir", None)
    worker = _InferenceWorker(Settings(model, tmp_path, None, (), threads=threads))
    says = FileSays(credentials=Credentials(state=State.ABSENT))
    task = Task(tmp_path / "job" / "video.mp4", "clip.mp4", False, 60.0, says)
    served = worker.answer(task, lambda _: None).row
    assert served["probability"] == row["probability"]
    assert served["faces"] == row["faces"]
    # What `evaluate`, `robustness` and `benchmark` do with crops that are there already.
    predictor = Predictor.load(model, threads=threads)
    cropped = crop_file(clip, predictor.checkpoint.faces, crops_dir=tmp_path)
    (score,) = predictor.score_videos(tmp_path, [cropped.found])
    assert score.probability == row["probability"]


def test_a_report_says_what_its_maps_need(folder, tmp_path):
    """A transformer's maps are torch's; the answer and the rest of the page are not."""
    torch.manual_seed(1)
    settings = params.load()
    clips = settings.clips.model_copy(update={"frames": 4, "interval_s": 0.4, "side_px": 64})
    backbone = {"backbone": "timm/vit_tiny_patch16_224", "weights": "none"}
    model = settings.model.model_copy(update=backbone)
    net = build(model.backbone, dropout=0.5, side_px=64).eval()
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)
    own = Checkpoint(
        settings.faces, clips, model, 1.5, limits, run_key="none",
        colours=timm_facts(backbone["backbone"]).colours,
    )  # fmt: skip
    save(tmp_path / "model", net, own)
    page = tmp_path / "page.html"
    words = ("--model", str(tmp_path / "model"), "--report", str(page))
    row, said = ask(folder, *words, blocked=True)
    assert 0 < row["probability"] < 1
    told = "made by torch; it is not installed"
    assert page.read_text().count("No map was made of this face. The maps of") == 2
    assert told in page.read_text()
    assert told in said


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
