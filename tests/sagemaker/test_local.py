"""The SDK's local mode, with docker played by a script: the image itself has its own tests."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from small_account import KEYS, make_model

from unmask import params
from unmask.models import checkpoint
from unmask.sagemaker import contract
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.local import train_locally
from unmask.sagemaker.submit import Training
from unmask.storage.blobs import StoredFile

ROOT = Path(__file__).parents[2]
KEY = "a" * 64

# Answers `docker images`, `docker compose version` and `docker compose -f FILE up`.
DOCKER = """#!{python}
import json, shutil, sys, yaml
from pathlib import Path
if "images" in sys.argv:
    print("0123" if "unmask:v1" in sys.argv else "")
elif "version" in sys.argv:
    print("Docker Compose version v2.30.0")
else:
    text = Path(sys.argv[sys.argv.index("-f") + 1]).read_text()
    [container] = yaml.safe_load(text)["services"].values()
    mounts = dict(reversed(volume.split(":")[:2]) for volume in container["volumes"])
    saw = Path({saw!r})
    (saw / "compose.yaml").write_text(text)
    data = dict((name, mounts["/opt/ml/input/data/" + name]) for name in ("files", "listing"))
    for name, folder in data.items():
        shutil.copytree(folder, saw / name)
    config = Path(mounts["/opt/ml/input"]) / "config/hyperparameters.json"
    shutil.copy(config, saw)
    shutil.copytree({model!r}, mounts["/opt/ml/model"], dirs_exist_ok=True)
"""


@pytest.fixture
def training(tmp_path: Path) -> Training:
    root = tmp_path / "checkout"
    (root / "faces").mkdir(parents=True)
    (root / "faces/1.mp4").write_bytes(b"hello")
    return Training(root, params.load(ROOT / "params.yaml"), KEY)


@pytest.fixture
def saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What docker saw."""
    folder, programs = tmp_path / "saw", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, content in make_model(ROOT, tmp_path / "trained", KEY).items():
        (tmp_path / "trained" / name).write_bytes(content)
    docker = programs / "docker"
    docker.write_text(
        DOCKER.format(python=sys.executable, saw=str(folder), model=str(tmp_path / "trained"))
    )
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name, text in KEYS.items():
        monkeypatch.setenv(name, text)
    return folder


HELLO = StoredFile("faces/1.mp4", "5d41402abc4b2a76b9719d911017c592", 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK's pipe
def test_the_container_gets_what_a_job_gets_and_no_keys(training: Training, saw: Path) -> None:
    model = training.root / "model"
    train_locally(training, [HELLO], model, image="unmask:v1", variables={"A": "b"}, on_gpu=False)
    compose = (saw / "compose.yaml").read_text()
    assert "A=b" in compose
    assert not any(text in compose for text in KEYS.values())
    sent = json.loads((saw / "hyperparameters.json").read_text())
    assert contract.read_hyperparameters(sent) == contract.job_params(training.settings, KEY)
    files = contract.read_listing(saw / contract.LISTING / contract.LISTING_NAME)
    contract.lay_out(files, [saw / contract.FILES], saw / "root", workers=1)
    assert (saw / "root/faces/1.mp4").read_bytes() == b"hello"
    assert checkpoint.read_settings(model).run_key == KEY
    assert sorted(path.name for path in training.root.iterdir()) == ["faces", "model"]


def test_an_image_that_is_not_here_is_refused(training: Training, saw: Path) -> None:
    with pytest.raises(JobError, match=r"unmask:v0 on this machine; it is not here"):
        train_locally(
            training, [], training.root / "model", image="unmask:v0", variables={}, on_gpu=False
        )
    assert list(saw.iterdir()) == []
