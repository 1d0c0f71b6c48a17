"""W&B offline, without its server; what it keeps is read back in test_tracking."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tracking.test_tracker import wandb_place, wandb_records
from unmask.tracking import wandb_tracker
from unmask.tracking.tracker import TrackingError

SCRIPT = """
import sys, time
from pathlib import Path
from unmask.cli import common as doors
with doors.open_tracker(Path(sys.argv[1]), key=sys.argv[2]) as tracker:
    tracker.log_params({"seed": 7})
    for epoch in range(3):
        tracker.log_metrics({"val_loss": epoch / 8}, step=epoch)
    tracker.register_model(Path(sys.argv[3]), "champion")
    print("logged", flush=True)
    if len(sys.argv) > 4:
        time.sleep(60)
"""


def start(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start a process that logs a run, with W&B's settings only those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], text=True, cwd=arguments[0],
        env=kept | {"UNMASK_TRACKER": "wandb"} | variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_offline_it_keeps_all_in_the_root_and_asks_nobody(
    tmp_path: Path, model_folder: Path
) -> None:
    root, home = tmp_path / "root", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    called = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:  # all that leaves would come here

        def listen() -> None:
            try:
                while True:
                    called.append(proxy.accept())
            except OSError:
                return

        threading.Thread(target=listen, daemon=True).start()
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), address)
        process = start(root, "k1", model_folder, WANDB_MODE="offline", HOME=str(home), **proxies)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert (out, err, called) == ("logged\n", "", [])
    assert list(home.rglob("*")) == []
    assert [path.name for path in root.iterdir()] == ["wandb"]
    kept = wandb_place(root)[1]("k1")
    assert kept.params["seed"] == "7"
    assert kept.history["val_loss"] == [(0, 0.0), (1, 0.125), (2, 0.25)]
    assert kept.model["weights.safetensors"] == bytes(range(256))
    [folder] = root.glob("wandb/offline-run-*")
    [artifact] = [r.artifact for r in wandb_records(folder) if r.HasField("artifact")]
    assert set(artifact.aliases) == {"latest", "champion"}
    assert all(root in Path(e.local_path).parents for e in artifact.manifest.contents)


@pytest.mark.slow
def test_a_kill_loses_nothing_that_is_older_than_a_second(
    tmp_path: Path, model_folder: Path
) -> None:
    process = start(tmp_path, "k1", model_folder, "and wait", WANDB_MODE="offline")
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    time.sleep(3 * wandb_tracker.FLUSH_S)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [folder] = tmp_path.glob("wandb/offline-run-*")
    kinds = [record.WhichOneof("record_type") for record in wandb_records(folder)]
    assert kinds.count("history") == 3
    assert "artifact" in kinds


@pytest.mark.slow
def test_a_server_that_is_down_leaves_an_offline_run(tmp_path: Path, model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    process = start(
        tmp_path, "k1", model_folder, WANDB_BASE_URL=address, WANDB_API_KEY="5" * 40,
        HOME=str(tmp_path / "home"),
    )  # fmt: skip
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (0, "logged\n"), err
    [line] = [line for line in err.splitlines() if "wandb sync" in line]
    assert "W&B did not take the run" in line
    assert "5" * 40 not in err
    assert wandb_place(tmp_path)[1]("k1").history["val_loss"][-1] == (2, 0.25)


def test_without_a_key_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no .netrc
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrackingError, match="`wandb login`"):
        wandb_tracker.open_run(tmp_path, key="k1", run_name=None)


def test_without_wandb_it_says_how_to_install_it(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "wandb.py").write_text("raise ImportError('no wandb here')\n")
    path = os.pathsep.join([str(blocked), *sys.path])
    process = start(tmp_path, "k1", tmp_path, PYTHONPATH=path)
    _, err = process.communicate(timeout=100)
    assert "pip install -e '.[wandb]'" in err.splitlines()[-1]


def test_a_run_of_a_training_s_stands_in_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb_tracker.open_run(tmp_path, key="training-near", run_name="near", parent="training"):
        pass
    wandb.teardown()
    [folder] = tmp_path.glob("wandb/offline-run-*-training-near")
    groups = {
        record.run.run_group
        for record in wandb_records(folder) if record.WhichOneof("record_type") == "run"
    }  # fmt: skip
    assert groups == {"training"}
