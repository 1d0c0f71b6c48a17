"""Archives: the same bytes for the same content, and nothing in them that was not asked for."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from adopted import tiny_adopted

from unmask.federated import state as federated_state
from unmask.federated.archives import (
    LIGHT,
    LOCK,
    Recipe,
    build_wheel,
    check_installed,
    pack,
    pick_requirements,
)
from unmask.federated.plans import FUNCTIONS, as_it_is, single
from unmask.federated.samples import FederatedError

ROOT = Path(__file__).parents[2]
SECRET = b"AKIA-this-is-secret"
RECIPE = Recipe('{"faces": 1}\n', None, "")
# Imports what the heavy functions do as if nothing but the named packages were installed.
BARE = """
import importlib.metadata, sys
installed = {*sys.argv[1:], "unmask"}
owners = importlib.metadata.packages_distributions()

class Bare:
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        own = {each.lower().replace("_", "-") for each in owners.get(name.split(".")[0], ())}
        if own and not own & installed:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec), None)

sys.meta_path[:] = [Bare(list(sys.meta_path))]
import unmask.faces.crops, unmask.federated.synthetic_samples, unmask.federated.tasks
import unmask.models.predict, unmask.models.train
"""
CARRIED = (
    "federated", "src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE", LOCK,
)  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of this checkout in which secrets and weights lie about."""
    root = tmp_path_factory.mktemp("checkout")
    for name in CARRIED:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for place in (".", "federated", "federated/train", "federated/dataset", "src"):
        (root / place / ".env").write_bytes(SECRET)
        (root / place / "organisations.yaml").write_bytes(SECRET)
    (root / "weights").mkdir()
    (root / "weights/mine.safetensors").write_bytes(b"weights of mine")
    (root / "weights/other.safetensors").write_bytes(SECRET)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's folder that others trained."""
    folder = tmp_path_factory.mktemp("adopted")
    tiny_adopted(folder / "there")
    return folder / "there/model"


@pytest.fixture(scope="module")
def packed(checkout, model, tmp_path_factory):
    recipe = Recipe(
        RECIPE.settings, checkout / "weights/mine.safetensors", "weights/mine.safetensors", model
    )
    return pack(checkout, recipe, tmp_path_factory.mktemp("archives"))


def members(asset):
    with zipfile.ZipFile(asset.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_nothing_changed_nothing_differs(checkout, model, packed, tmp_path):
    for path in (checkout / "federated").rglob("*"):
        os.utime(path, (1, 1))
    moved = shutil.copytree(checkout, tmp_path / "elsewhere")
    recipe = Recipe(
        RECIPE.settings, moved / "weights/mine.safetensors", "weights/mine.safetensors", model
    )
    again = pack(moved, recipe, tmp_path / "archives")
    assert {n: a.sha256 for n, a in again.functions.items()} == {
        n: a.sha256 for n, a in packed.functions.items()
    }
    assert again.opener.sha256 == packed.opener.sha256


def test_what_changes_changes_the_digest(checkout, packed, tmp_path):
    other = pack(checkout, replace(RECIPE, settings="{}\n"), tmp_path / "archives")
    differing = {n for n, a in other.functions.items() if a.sha256 != packed.functions[n].sha256}
    assert differing == {"train"}  # and nothing is published


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_archive_holds_what_it_needs_alone(packed, name):
    found = members(packed.functions[name])
    [wheel] = [file for file in found if file.endswith(".whl")]
    wanted = {"function.py", "Dockerfile", "requirements.txt", wheel}
    if name == "publish":
        wanted |= {"model.zip"}
    if name == "train":
        wanted |= {"settings.json", "weights/mine.safetensors"}
        assert found["weights/mine.safetensors"] == b"weights of mine"
    assert set(found) == wanted
    assert not [file for file, content in found.items() if SECRET in content]
    with zipfile.ZipFile(packed.functions[name].path) as archive:
        archive.extract(wheel, packed.opener.path.parent)
    unpacked = packed.opener.path.parent / wheel
    with zipfile.ZipFile(unpacked) as files:
        assert "unmask/federated/tasks.py" in files.namelist()
        assert not [file for file in files.namelist() if SECRET in files.read(file)]
    unpacked.unlink()


def test_the_model_that_is_scored_as_it_is_is_packed_for_publish_alone(
    checkout, model, packed, tmp_path
):
    (tmp_path / "model.zip").write_bytes(members(packed.functions["publish"])["model.zip"])
    found = federated_state.read(tmp_path / "model.zip")
    assert found.about == federated_state.UNTRAINED
    assert found.settings == json.loads((model / "checkpoint.json").read_text())
    without = pack(checkout, RECIPE, tmp_path / "archives")
    assert "publish" not in without.functions
    # Plans that train are the same, whatever is scored beside them.
    trains, scores = single("a", ["a", "b"]), as_it_is("a", ["a", "b"])
    assert set(packed.digests_for(trains)) == set(without.functions)
    assert set(packed.digests_for(scores)) == set(FUNCTIONS)


def test_a_folder_without_a_model_is_no_model_to_score(checkout, tmp_path):
    with pytest.raises(
        FederatedError, match=r"weights\.safetensors can't be read .* Name the folder"
    ):
        pack(checkout, replace(RECIPE, model=tmp_path), tmp_path / "archives")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_entrypoint_is_one_that_subprocess_mode_reads(packed, name):
    lines = members(packed.functions[name])["Dockerfile"].decode().splitlines()
    [line] = [line for line in lines if "ENTRYPOINT" in line]
    assert line == f'ENTRYPOINT ["python3", "function.py", "--function-name", "{name}"]'


def test_light_functions_install_little(packed):
    light = members(packed.functions["auc"])["requirements.txt"].decode()
    names = re.findall(r"^([\w.-]+)==", light, flags=re.MULTILINE)
    assert set(names) == set(LIGHT)
    assert light.count("--hash=sha256:") >= len(names)


def test_heavy_functions_install_what_they_import_and_not_all(packed):
    text = members(packed.functions["train"])["requirements.txt"].decode()
    names = set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE))
    assert {"torch", "lightning", "jinja2", "sympy"} <= names  # the last two are torch's
    # One needs a compiler, which the image has not.
    assert not names & {"sagemaker-training", "sagemaker", "mlflow", "dvc", "wandb", "moto"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, *names], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_not_pinned_is_an_error():
    with pytest.raises(FederatedError, match="Asked for absent of"):
        pick_requirements("numpy==2.0 \\\n    --hash=sha256:00\n", ["absent", "numpy"])


def test_code_that_would_not_run_is_not_packed_for_a_run_here(checkout):
    check_installed(ROOT)
    with pytest.raises(FederatedError, match="tasks here would import unmask from"):
        check_installed(checkout)


def test_a_folder_that_is_no_checkout_is_an_error(checkout, tmp_path):
    with pytest.raises(FederatedError, match=r"hatchling said(.|\n)*in a checkout"):
        build_wheel(tmp_path, tmp_path)
    (tmp_path / "co").mkdir()
    for name in CARRIED[1:-1]:
        (tmp_path / "co" / name).symlink_to(checkout / name)
    with pytest.raises(FederatedError, match=r"Asked to pack .*requirements\.lock"):
        pack(tmp_path / "co", RECIPE, tmp_path / "archives")


def test_what_a_package_needs_comes_with_it():
    lock = (
        "# a lock\na==1 \\\n    --hash=sha256:00\n    # via unmask (pyproject.toml)\n"
        "b==2 ; x \\\n    --hash=sha256:01\n    # via\n    #   a\n    #   z\n"
        "c==3 \\\n    --hash=sha256:02\n    # via b\n"
        "d==4 \\\n    --hash=sha256:03\n    # via z\n"
    )
    kept = pick_requirements(lock, ["a"])
    assert re.findall(r"^(\w)==", kept, flags=re.MULTILINE) == ["a", "b", "c"]
    assert "sha256:01" in kept
