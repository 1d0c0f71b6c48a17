"""Published weights read without running what is in them: tensors by name, nothing else."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import MALFORMED, WeightsError
from unmask.runtime.disk import read_regular

if TYPE_CHECKING:
    import torch

_MAX_CONFIG_BYTES = 2**20
# Where trainers put the weights beside an optimizer's state and the like.
_INSIDE = ("state_dict", "model", "model_state", "model_state_dict", "net")


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a .safetensors file, or of a pickle that holds nothing but tensors.

    Numbers with a fraction come in 32 bits. Of a file that holds the weights beside other plain
    data, such as an optimizer's state, the weights are returned.

    Raises:
        WeightsError: the file is cut off, is something else, or holds objects, whose code is never
            run.
    """
    import torch

    found = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    for key in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found:
        raise _no_tensors(path, "it holds no tensors by name")
    # A wrapper for several GPUs puts this before every name.
    prefix = "module." if all(str(name).startswith("module.") for name in found) else ""
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _no_tensors(path, f"{name!r:.60} is a {type(value).__name__}")
        value = value.detach()
        tensors[name.removeprefix(prefix)] = value.float() if value.is_floating_point() else value
    return tensors


def _is_safetensors(path: Path) -> bool:
    """Say whether the file begins as safetensors do: the length of a header, then its brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path.name} should be safetensors; it is damaged or cut off ({error}). Fetch it "
            "again."
        ) from error


def _read_pickle(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message tells how to switch the check off; that is never done here.
        what = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")[0]
        raise WeightsError(
            f"{path.name} is a pickle with more in it than tensors ({what:.200}): reading it would "
            "run code of whoever made it, and is not done. Ask for safetensors, or convert it "
            "where you trust it."
        ) from error
    except Exception as error:
        # Damaged bytes make torch raise nearly anything: OSError, IndexError, struct.error, ...
        raise WeightsError(
            f"{path.name} should hold weights; it is damaged, cut off or of another format "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__:.200}). Fetch "
            "it again."
        ) from error


def _no_tensors(path: Path, found: str) -> WeightsError:
    return WeightsError(
        f"{path.name} should hold tensors by name; {found}. Name the file that has the weights "
        "alone, or convert it to safetensors."
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON object that lies beside weights.

    Raises:
        WeightsError: it is none.
    """
    try:
        values = json.loads(read_regular(path, _MAX_CONFIG_BYTES))
        if not isinstance(values, dict):
            raise ValueError(f"it is a {type(values).__name__}")
    except (OSError, *MALFORMED) as error:
        raise WeightsError(
            f"{path.name}, beside the weights, should be a JSON object: {error!s:.200}."
        ) from error
    return values
