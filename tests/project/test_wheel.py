"""What is packed: the same bytes wherever and whenever, and a model only where one is named."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatch_build import FILES, NEEDED, VARIABLE

from unmask.federated.archives import build_wheel

ROOT = Path(__file__).parents[2]
CARRIED = ("src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is packed, with a made model and things beside it that nobody should get."""
    folder = tmp_path_factory.mktemp("here") / "unmask"
    folder.mkdir()
    for name in CARRIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "model").mkdir()
    for name in (*FILES, "key.pem", "clip.mp4"):
        (folder / "model" / name).write_text(f"{name} of the made model\n")
    for name in (".env", "clip.mp4"):
        (folder / name).write_text("private")
    return folder


def build(folder, kind, out, *, model=None):
    """Return what was built, as a path, and what was said meanwhile."""
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env |= {VARIABLE: model} if model else {}
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [built] = out.iterdir()
    return built, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_two_builds_are_the_same_bytes_whenever_and_wherever(source, kind, tmp_path):
    first, _ = build(source, kind, tmp_path / "first", model="model")
    elsewhere = tmp_path / "some" / "where else"
    shutil.copytree(source, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700 if path.is_dir() else 0o600)
    second, _ = build(elsewhere, kind, tmp_path / "second", model=str(elsewhere / "model"))
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_holds_the_named_model_and_nothing_else_that_lies_there(source, tmp_path):
    wheel, said = build(source, "wheel", tmp_path, model="model")
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
        inside = {name.rpartition("/")[2] for name in names if "/demonstration/" in name}
        assert held.read("unmask/demonstration/net.onnx") == b"net.onnx of the made model\n"
    assert inside == set(FILES)
    assert "holds no model" not in said
    assert not any(name.endswith((".mp4", ".pem", ".env")) for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_a_wheel_without_a_model_says_so(source, tmp_path):
    wheel, said = build(source, "wheel", tmp_path)
    assert "This wheel of unmask holds no model" in said
    with zipfile.ZipFile(wheel) as held:
        assert not [name for name in held.namelist() if "demonstration" in name]


def test_a_wheel_made_of_the_source_distribution_holds_the_same(source, tmp_path):
    sdist, _ = build(source, "sdist", tmp_path / "sdist", model="model")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    [folder] = (tmp_path / "unpacked").iterdir()
    assert not list(folder.rglob("*.mp4"))
    second, said = build(folder, "wheel", tmp_path / "second")
    first, _ = build(source, "wheel", tmp_path / "first", model="model")
    assert "holds no model" not in said
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.mark.parametrize("gone", NEEDED)
def test_a_model_that_could_not_answer_is_not_packed(source, gone, tmp_path):
    shutil.copytree(source / "model", tmp_path / "model")
    (tmp_path / "model" / gone).unlink()
    with pytest.raises(AssertionError, match=f"found no {gone}"):
        build(source, "wheel", tmp_path / "out", model=str(tmp_path / "model"))


def test_no_model_travels_with_the_functions_of_a_benchmark(source, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(source / "model"))
    with zipfile.ZipFile(build_wheel(source, tmp_path)) as held:
        assert not [name for name in held.namelist() if "demonstration" in name]
