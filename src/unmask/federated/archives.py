"""The archives of the benchmark's functions: zips that are the same when nothing changed.

Each holds what is named here and nothing else that lies about: no keys, no environment, no weights
but those that model.weights asks for.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unmask.federated import state
from unmask.federated.plans import FUNCTIONS, Plan
from unmask.federated.samples import FederatedError
from unmask.federated.state import write_zip
from unmask.runtime.code import PACKAGE
from unmask.runtime.disk import content_digest

LOCK = "requirements.lock"
LIGHT = ("numpy", "safetensors", "substratools")  # all that a mean or a metric imports
HEAVY = (
    *LIGHT, "av", "facenet-pytorch", "fvcore", "lightning", "onnx", "opencv-python-headless",
    "openvino", "pillow", "pydantic", "pytorchvideo", "pyyaml", "timm", "torch", "torchvision",
    "tqdm",
)  # fmt: skip
NEEDS = {"train": HEAVY, "predict": HEAVY}
WHEEL_MODEL = "UNMASK_WHEEL_MODEL"  # has hatch_build.py pack a model: none goes to a network
PUBLISH = "publish"  # the function that is packed where there is a model to score as it is
OPENER, DESCRIPTION = "opener.py", "description.md"


@dataclass(frozen=True)
class Asset:
    """A file to register, its description, and the digest that tells it from other versions."""

    path: Path
    description: Path
    sha256: str


@dataclass(frozen=True)
class Assets:
    """All that a benchmark registers but the samples."""

    opener: Asset
    functions: dict[str, Asset]

    def digests_for(self, plan: Plan) -> dict[str, str]:
        """Return the SHA-256 of the functions by name, without what other plans alone hand out.

        So a plan that trains is the same whatever model is scored beside it.
        """
        runs = {task.function for task in plan.tasks}
        return {
            name: asset.sha256
            for name, asset in sorted(self.functions.items())
            if name != PUBLISH or name in runs
        }


@dataclass(frozen=True)
class Recipe:
    """What `train`'s archive holds beside its code."""

    settings: str  # federated_tasks.settings_text
    weights: Path | None
    weights_name: str  # the path in the archive: what the settings' model.weights says
    model: Path | None = None  # a model's folder that `publish` hands out; without it there is none


def build_wheel(root: Path, folder: Path) -> Path:
    """Return the wheel of the checkout in root, put into an empty folder.

    Hatchling gives the same bytes for the same source.

    Raises:
        FederatedError: it can't be built.
    """
    # -P: no module is taken from the checkout itself.
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d"]
    command.append(str(folder.resolve()))
    without_model = {name: v for name, v in os.environ.items() if name != WHEEL_MODEL}
    done = subprocess.run(
        command, cwd=root, env=without_model, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FederatedError(
            f"Asked for the wheel of {root.resolve()}; hatchling said: "
            f"{done.stderr.strip()[-500:]} Run this in a checkout of unmask, with hatchling "
            "installed (`make install`)."
        )
    [wheel] = folder.glob("*.whl")
    return wheel


def check_installed(root: Path) -> None:
    """Pass if the unmask that this Python imports is the checkout's in root.

    Substra's subprocess mode runs functions with this Python, not with the wheel in the archive.

    Raises:
        FederatedError: it is another one: results would carry the digests of code that did not run.
    """
    ours, packed = PACKAGE, (root / "src/unmask").resolve()
    if ours != packed:
        raise FederatedError(
            f"Asked to run the functions of {packed}; tasks here would import unmask from {ours}. "
            "Run this in that checkout, or install this one (`make install`)."
        )


def pack(root: Path, recipe: Recipe, out: Path) -> Assets:
    """Write the archives of all functions of the checkout in root to out; return the assets.

    Raises:
        FederatedError: the wheel can't be built, or a file of the checkout is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unmask-wheel-") as folder:
        wheel = build_wheel(root, Path(folder))
        wanted = [name for name in FUNCTIONS if name != PUBLISH or recipe.model is not None]
        functions = {name: _pack(root, name, recipe, wheel, out) for name in wanted}
    return Assets(opener_of(root), functions)


def opener_of(root: Path) -> Asset:
    """Return the datasets' opener of the checkout in root.

    Raises:
        FederatedError: a file of it is missing.
    """
    dataset = root / "federated/dataset"
    _read(dataset / OPENER)
    return _asset(dataset / OPENER, dataset / DESCRIPTION)


def _pack(root: Path, name: str, recipe: Recipe, wheel: Path, out: Path) -> Asset:
    home = root / "federated" / name
    lock = _read(root / LOCK).decode()
    requirements = pick_requirements(lock, NEEDS.get(name, LIGHT))
    dockerfile = _read(root / "federated/Dockerfile").replace(b'"FUNCTION"', f'"{name}"'.encode())
    members = {"function.py": _read(home / "function.py"), "Dockerfile": dockerfile}
    members |= {wheel.name: _read(wheel), "requirements.txt": requirements.encode()}
    if name == "train":
        members["settings.json"] = recipe.settings.encode()
        if recipe.weights is not None:
            members[recipe.weights_name] = _read(recipe.weights)
    if name == PUBLISH:
        assert recipe.model is not None
        members[state.MODEL] = _state_of(recipe.model)
    path = out / f"{name}.zip"
    write_zip(path, members)
    return _asset(path, home / DESCRIPTION)


def _state_of(model: Path) -> bytes:
    """Return a model's folder as a state; read again, so that nobody is sent what all refuse."""
    with tempfile.TemporaryDirectory(prefix="unmask-state-") as folder:
        path = Path(folder, state.MODEL)
        try:
            state.pack(model, path, state.UNTRAINED)
        except OSError as error:
            raise FederatedError(
                f"Asked to score the model in {model}; {error.filename} can't be read "
                f"({error.strerror}). Name the folder of a model."
            ) from error
        state.read(path)
        return path.read_bytes()


def _asset(path: Path, description: Path) -> Asset:
    _read(description)
    return Asset(path, description, content_digest(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FederatedError(
            f"Asked to pack {path}; it can't be read ({error.strerror}). Run this in the root of a "
            "checkout of unmask."
        ) from error


def pick_requirements(lock: str, names: Collection[str]) -> str:
    """Return the packages of a lock that have these names and all that they need, with hashes.

    Who needs a package, the lock says below it.

    Raises:
        FederatedError: one of the names is not in the lock.
    """
    blocks = re.findall(r"^[\w.-]+==.*\n(?:[ \t].*\n)*", lock, flags=re.MULTILINE)
    if missing := sorted(set(names) - {_name(block) for block in blocks}):
        raise FederatedError(
            f"Asked for {', '.join(missing)} of {LOCK}; it does not pin them. Run `make lock`."
        )
    kept = set(names)
    while more := {_name(b) for b in blocks if kept & _needed_by(b)} - kept:
        kept |= more
    return "".join(block for block in blocks if _name(block) in kept)


def _name(block: str) -> str:
    return block.partition("==")[0]


def _needed_by(block: str) -> set[str]:
    return set(re.findall(r"^ +#(?: via)? +([\w.-]+)", block, flags=re.MULTILINE))
