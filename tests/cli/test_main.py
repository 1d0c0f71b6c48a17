"""What people type and what they read."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import COMMANDS, OPTIONS, leaves

from unmask import params
from unmask.answers import model_source
from unmask.cli.main import _face_params, main
from unmask.errors import ParamsError
from unmask.extras import EXTRAS
from unmask.models import checkpoint
from unmask.models.checkpoint import Checkpoint
from unmask.scoring.verdicts import NOTHING_LEARNED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_has_help(command):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_no_command_hands_the_passphrase_of_a_signing_key_on(monkeypatch):
    """It is exported for predict; verify --score, typed next, decodes a stranger's video, too."""
    monkeypatch.setenv("UNMASK_SIGN_PASSPHRASE", "correct horse")
    assert CliRunner().invoke(main, ["notice"]).exit_code == 0
    assert "UNMASK_SIGN_PASSPHRASE" not in os.environ


def test_of_every_command_it_is_known_what_it_needs():
    assert sorted(leaves(main)) == sorted(COMMANDS)


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """An empty folder, and no library of any extra."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNMASK_TRACKER", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for names in EXTRAS.values():
        for name in names:
            # Its parts, too: one that another test imported would be found without the whole.
            for part in [each for each in sys.modules if each.startswith(f"{name}.")]:
                monkeypatch.delitem(sys.modules, part)
            monkeypatch.setitem(sys.modules, name, None)
    return tmp_path


@pytest.mark.parametrize("command", [name for name, (_, extras) in COMMANDS.items() if extras])
def test_a_command_without_its_extras_says_what_to_install_in_one_line(command, plain):
    arguments, extras = COMMANDS[command]
    result = CliRunner().invoke(main, [*command.split(), *arguments])
    [line] = result.output.splitlines()
    assert result.exit_code == 1
    assert line.startswith(f"Error: unmask {command} needs ")
    assert line.endswith(f': pip install "unmask[{",".join(extras)}]"')
    assert list(plain.iterdir()) == []


def test_an_option_without_its_extra_says_what_to_install(plain):
    (plain / "mlflow.db").touch()
    for typed, extra in OPTIONS.items():
        result = CliRunner().invoke(main, typed.split())
        said = f'Error: unmask predict needs {EXTRAS[extra][0]}: pip install "unmask[{extra}]"'
        assert (result.exit_code, result.output) == (1, said + "\n")


@pytest.mark.usefixtures("plain")
def test_scores_of_a_benchmark_go_to_no_tracker_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    result = CliRunner().invoke(main, ["benchmark", "score", "b"])
    assert result.output.startswith("Error: Asked for params.yaml")


def test_notices_of_others_work_are_printed():
    result = CliRunner().invoke(main, ["notice"])
    assert "Copyright (c) 2019 Timothy Esler" in result.output
    assert "CC BY 4.0" in result.output
    assert "Apache License" in CliRunner().invoke(main, ["notice", "--licence"]).output


def test_a_users_mistake_is_one_line_that_says_what_to_do(tmp_path):
    result = CliRunner().invoke(main, ["predict", "--model", str(tmp_path), "clip.mp4"])
    assert result.exit_code == 1
    [line] = result.output.splitlines()
    assert line.startswith("Error: Asked for the model in ")
    assert "make repro" in line


def test_log_without_anything_to_send_is_quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["log"])
    assert (result.exit_code, result.output) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_wait_for_torch():
    script = "import sys; from unmask.cli.main import main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_fakes_are_made_where_there_is_no_params_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        _face_params()
    own = params.load(ROOT / "params.yaml")
    faces = own.faces.model_copy(update={"side_px": 192})
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)
    checkpoint.write_settings(
        tmp_path / "shipped",
        Checkpoint(faces, own.clips, own.model, 1.5, limits, run_key="none"),
    )
    monkeypatch.setattr(model_source, "SHIPPED", tmp_path / "shipped")
    assert _face_params() == faces
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert _face_params() == own.faces


def test_pretrain_refuses_portraits_that_are_not_those_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    (tmp_path / "A000014.jpg").write_bytes(b"somebody else")
    weights = tmp_path / "weights/x3d_xs.safetensors"
    words = ["pretrain", "--portraits", str(tmp_path), "--weights", str(weights)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert (
        f"Asked for the 734 portraits of weights/portraits.csv in {tmp_path}; found 733 missing "
        "(A000022.jpg, A000055.jpg, A000109.jpg, ...) and 1 with another SHA-256 (A000014.jpg)."
    ) in done.output
    assert not weights.parent.exists()
    # `make` hands the folder on, and no option without one.
    for given, option in ((["PORTRAITS=some folder"], ' --portraits "some folder"'), ([], "")):
        said = subprocess.run(
            ["make", "-n", "-o", "install", "pretrain", *given],
            cwd=root, capture_output=True, text=True, check=True,
            env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        ).stdout  # fmt: skip
        assert said.splitlines()[-1].rstrip().endswith(f"unmask pretrain{option}")
