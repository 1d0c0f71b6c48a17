"""Training jobs through SageMaker's real toolkit, on folders like SageMaker's."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from training_job import files, key, lay_down

from tests.models.test_train import make_chunk
from unmask import params
from unmask.models import checkpoint, fit, train
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.records import Fingerprint
from unmask.runtime import record_files
from unmask.sagemaker import contract
from unmask.tracking.tracker import NullTracker

ROOT = Path(__file__).parents[2]
SIDE_PX = 64
INTERRUPTED = 143
# Both are this machine.
HOSTS = ("127.0.0.1", "localhost")


def load(name: str):
    """Return a program of containers/, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"containers_{name}", ROOT / f"containers/{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Project:
    """A checkout with a chunk whose fakes are striped, and its params."""

    root: Path
    settings: params.Params

    @property
    def wanted(self) -> contract.JobParams:
        return contract.job_params(self.settings, key(self.root, self.settings))

    def job(self, base: Path, **more) -> Path:
        return lay_down(base, self.root, self.wanted, files(self.root, self.settings), **more)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("checkout")
    (root / "faces").mkdir()
    made = make_chunk(root / "faces/made")
    # Three validation videos: two hosts can't share them out evenly.
    made.records[:] = [record for record in made.records if record.video_id != "real4"]
    del made.faces["real4"]
    lines = [record_files.faces_line(found) for found in made.faces.values()]
    (root / "faces/made/index.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (root / "raw/made").mkdir(parents=True)
    record_files.write_index(root / "raw/made/index.csv", made.records)
    record_files.write_fingerprints(
        root / "raw/made/fingerprints.csv",
        [
            Fingerprint(record.video_id, sha256(record.video_id.encode()).hexdigest(), "made", ())
            for record in made.records
        ],
    )
    shipped = params.load(ROOT / "params.yaml")
    small = {"batch_size": 3, "epochs": 4, "milestone": 1, "lr_head": 1e-3}
    settings = shipped.model_copy(
        update={
            "chunks": ("made",),
            "clips": shipped.clips.model_copy(update={"side_px": SIDE_PX, "max_per_track": 1}),
            "model": shipped.model.model_copy(update={"weights": "none"}),
            "train": shipped.train.model_copy(update=small),
        }
    )
    return Project(root, settings)


def start(base: Path, **environment: str) -> subprocess.Popen[str]:
    """Start what the image's CMD starts, its words in base/log."""
    environment = os.environ | {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_SUBMIT_DIRECTORY": str(ROOT / "containers"),
        "SAGEMAKER_PROGRAM": "train.py",
        "SAGEMAKER_TRAINING_MODULE": "launch:main",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "containers"), str(ROOT / "src")]),
        "UNMASK_TRACKER": "none",
        "OMP_NUM_THREADS": "1",  # more wait for each other where the cores are busy
    } | environment  # fmt: skip
    with (base / "log").open("a") as log:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("train"))],
            cwd=base, env=environment, stdout=log, stderr=log, text=True,
        )  # fmt: skip


def run(base: Path, **environment: str) -> int:
    return start(base, **environment).wait(300)


def said(base: Path) -> str:
    return (base / "log").read_text()


def content(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def model(base: Path) -> dict[str, str]:
    """Return the SHA-256 of the model's files, as digests.json has them and as they are."""
    found = content(base / "model")
    del found["digests.json"]
    assert json.loads((base / "model/digests.json").read_text()) == found
    return found


def train_locally(root: str, settings: str) -> None:
    """Run in a process of its own: do what the stage does."""
    torch.set_num_threads(1)
    folder, wanted = Path(root), params.Params.model_validate_json(settings)
    chunks = record_files.read_chunks(wanted.chunks, folder / "raw", folder / "faces")
    scratch = folder / "scratch"
    plan = fit.plan(chunks, Settings.of(wanted), scratch=scratch, weights_cache=folder)
    train.train(
        chunks, Settings.of(wanted), folder / "model", NullTracker(),
        plan=plan, scratch=scratch, workers=0, weights_cache=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def local_model(project: Project) -> dict[str, str]:
    """The model's files of a training on this machine, without a job."""
    code = (
        "import sys; from tests.sagemaker.test_containers import train_locally; "
        "train_locally(*sys.argv[1:])"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/parts"), str(ROOT / "src")])
    subprocess.run(
        [sys.executable, "-c", code, str(project.root), project.settings.model_dump_json()],
        env=os.environ | {"PYTHONPATH": paths}, check=True, timeout=300,
    )  # fmt: skip
    return content(project.root / "model")


@pytest.mark.slow
def test_a_job_makes_the_model_that_a_local_training_makes(
    project: Project, local_model: dict[str, str], tmp_path: Path
) -> None:
    base = project.job(tmp_path)
    # The local training decoded its crops each time.
    assert run(base, UNMASK_FRAME_CACHE="1GB") == 0, said(base)
    assert re.search(r"frames of (\d+) crop files in .*/\.frames, \1 of them", said(base))
    assert model(base) == local_model
    net, carried = checkpoint.load(base / "model")
    assert carried.run_key == project.wanted.key
    assert (carried.clips, carried.model) == (project.settings.clips, project.settings.model)
    assert not net.training
    # What SageMaker will draw is what the model's history says.
    history = record_files.read_history(base / "model" / checkpoint.HISTORY)
    for name, pattern in contract.METRICS.items():
        drawn = [float(value) for value in re.findall(pattern, said(base))]
        assert drawn == pytest.approx([row[name] for row in history], abs=1e-6), name
    assert not (base / "output/failure").exists()


@pytest.mark.slow
def test_an_interrupted_job_goes_on_to_the_same_model(
    project: Project, local_model: dict[str, str], tmp_path: Path
) -> None:
    base = project.job(tmp_path)
    kept = base / "checkpoints/training/last.ckpt"
    process = start(base)
    give_up = time.monotonic() + 200
    while not kept.exists():
        assert process.poll() is None, said(base)
        assert time.monotonic() < give_up, said(base)
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == INTERRUPTED, said(base)
    assert not (base / "model/digests.json").exists()
    assert "goes on from the last whole epoch" in (base / "output/failure").read_text()

    assert run(base) == 0, said(base)
    assert re.search(r"cut off after \d whole epochs: it goes on", said(base))
    assert model(base) == local_model
    assert not (base / "output/failure").exists()


@pytest.mark.slow
def test_two_hosts_make_one_model_and_must_agree_where_they_go_on(
    project: Project, tmp_path: Path
) -> None:
    bases = [tmp_path / "first", tmp_path / "second"]
    for base, host in zip(bases, HOSTS, strict=True):
        project.job(base, hosts=HOSTS, current=host)

    def run_both() -> list[int]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        processes = [start(base, MASTER_PORT=port) for base in bases]
        return [process.wait(300) for process in processes]

    assert run_both() == [0, 0], "\n".join(map(said, bases))
    _, carried = checkpoint.load(bases[0] / "model")
    assert carried.run_key == project.wanted.key
    assert model(bases[0]).keys() >= {checkpoint.WEIGHTS, checkpoint.CARD}
    # Each validation clip counts once, though both hosts see two of the three.
    chunk = record_files.read_chunk(
        "made", project.root / "raw/made/index.csv", project.root / "faces/made"
    )
    videos = chunk.of("validation")
    assert len(videos) == 3
    predictor = Predictor.load(bases[0] / "model", device="cpu")
    answers = predictor.score_videos(chunk.faces_dir, [found for _, found in videos])
    losses = [
        np.logaddexp(0, -score.worst.logit if record.label else score.worst.logit)
        for (record, _), score in zip(videos, answers, strict=True)
    ]
    history = record_files.read_history(bases[0] / "model" / checkpoint.HISTORY)
    assert np.mean(losses) == pytest.approx(min(row["val_loss"] for row in history), rel=1e-4)
    assert content(bases[1] / "model") == {}
    assert not (bases[1] / "checkpoints/training/last.ckpt").exists()
    assert len(re.findall(contract.METRICS["val_loss"], said(bases[0]))) == 4
    assert "unmask epoch=" not in said(bases[1])

    # The first alone would go on: its checkpoints came back, the other's did not.
    assert run_both() == [1, 1]
    for base in bases:
        assert "by rank they have [4, 0] epochs done" in (base / "output/failure").read_text()


@pytest.mark.slow
def test_the_code_of_another_training_is_refused(project: Project, tmp_path: Path) -> None:
    other = project.wanted.model_copy(update={"key": "0" * 64})
    base = lay_down(tmp_path, project.root, other, files(project.root, project.settings))
    assert run(base) == 1
    failure = (base / "output/failure").read_text()
    assert failure.startswith(f"The job asks for the training {'0' * 64}; ")
    assert project.wanted.key in failure
    assert "Build the image from the commit that submits" in failure
    assert content(base / "model") == {}


@pytest.mark.slow
def test_an_unforeseen_failure_leaves_its_traceback(project: Project, tmp_path: Path) -> None:
    base = project.job(tmp_path)
    (base / "input/data/checkout").write_text("in the way")
    assert run(base) == 1
    failure = (base / "output/failure").read_text()
    assert failure.startswith(("NotADirectoryError: ", "FileExistsError: "))
    assert "Traceback (most recent call last)" in failure
    assert "in lay_out" in failure


# ---------------------------------------------------------------- the launcher


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:  # the toolkit makes a folder where it is imported
        patch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path_factory.mktemp("ml")))
        return load("launch")


def supervise(launch, code: str, *, term_when: Path | None = None, grace_s: float = 20.0):
    """Supervise a Python program; send this process SIGTERM once the program wrote the file."""

    def send() -> None:
        while not term_when.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    if term_when:
        threading.Thread(target=send, daemon=True).start()
    return launch.supervise([sys.executable, "-c", code], grace_s=grace_s)


def test_the_programs_exit_code_is_told(launch) -> None:
    assert supervise(launch, "raise SystemExit(3)") == (3, False)
    assert supervise(launch, "") == (0, False)


def test_sigterm_interrupts_the_program_and_comes_back_to_whom_it_belongs(
    launch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    code = f"""if True:
        import pathlib, time
        try:
            pathlib.Path({str(tmp_path / "up")!r}).touch()
            time.sleep(60)
        except KeyboardInterrupt:
            raise SystemExit(7)"""
    assert supervise(launch, code, term_when=tmp_path / "up") == (7, True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interruption_that_python_swallows_is_repeated(launch, tmp_path: Path) -> None:
    code = f"""if True:
        import pathlib, time
        class Loader:
            def __del__(self):
                pathlib.Path({str(tmp_path / "up")!r}).touch()
                time.sleep(60)
        Loader()
        pathlib.Path({str(tmp_path / "swallowed")!r}).touch()
        time.sleep(60)"""
    found = supervise(launch, code, term_when=tmp_path / "up")
    assert found == (-signal.SIGINT, True)
    assert (tmp_path / "swallowed").exists()


def test_what_does_not_end_is_killed(launch, tmp_path: Path) -> None:
    code = f"""if True:
        import pathlib, signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pathlib.Path({str(tmp_path / "up")!r}).touch()
        time.sleep(60)"""
    found = supervise(launch, code, term_when=tmp_path / "up", grace_s=0.2)
    assert found == (-signal.SIGKILL, True)


def test_a_program_that_was_killed_is_said_to_be(launch) -> None:
    assert "ended by SIGKILL. The machine had too little memory" in launch._last_words(-9)
    assert launch._last_words(3) == "The training ended with exit code 3. Its log says why."
