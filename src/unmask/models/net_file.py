"""The file in a model's folder that holds its net in a portable form, without torch."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED, WeightsError
from unmask.runtime.digests import NET, SETTINGS, WEIGHTS
from unmask.runtime.disk import content_digest, read_regular, write_atomically

MOST_BYTES = 2**31  # where a file of protobuf ends
MOST_SETTINGS_BYTES = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetFile:
    """What a model's settings say of its portable net."""

    sha256: str
    weights_sha256: str  # of the weights file that the net was made of


def write_net(folder: Path, content: bytes) -> NetFile:
    """Write the portable net of the weights in the folder, and return what settings say of it.

    Raises:
        DiskError: the disk takes no more.
    """
    write_atomically(folder / NET, content)
    return NetFile(hashlib.sha256(content).hexdigest(), content_digest(folder / WEIGHTS))


def read_net(folder: Path, net: NetFile | None) -> bytes | None:
    """Return the folder's portable net; None where there is none of its weights.

    Raises:
        WeightsError: the file is another one than the settings say, or can't be read.
    """
    path = folder / NET
    try:
        if net is None or not path.exists() or not (folder / WEIGHTS).is_file():
            return None
        if content_digest(folder / WEIGHTS) != net.weights_sha256:
            logger.info("%s was made of other weights than those beside it", path)
            return None
        # As much as it has: that much memory is asked for at once.
        content = read_regular(path, min(path.stat().st_size, MOST_BYTES))
    except OSError as error:
        raise WeightsError(
            f"Asked for the model in {folder}; {path}: {error}. Run `dvc checkout`, or fetch it "
            "again."
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != net.sha256:
        raise WeightsError(
            f"{path} should have the sha256 {net.sha256}, as checkpoint.json says; it has {found}. "
            "Run `dvc checkout`, or fetch the model again."
        )
    return content


def net_file_of(folder: Path) -> NetFile | None:
    """Return what a model's settings say of its portable net, without a look at the rest of them.

    Raises:
        WeightsError: they can't be read.
    """
    path = folder / SETTINGS
    try:
        settings = json.loads(read_regular(path, MOST_SETTINGS_BYTES))
        return net_file_from(settings.get("net"))
    except (OSError, *MALFORMED) as error:
        raise WeightsError(
            f"{path} is not a model's settings: {error}. Run `dvc checkout`, or fetch the model "
            "again."
        ) from error


def net_file_from(values: Any) -> NetFile | None:
    """Return what a model's settings say of its portable net, if they say anything.

    Raises:
        ValueError: it is not what settings say.
    """
    if values is None:
        return None
    names = ("sha256", "weights_sha256")
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"net should have {' and '.join(names)}; found {values!r:.200}")
    if odd := [name for name in names if not _is_digest(values[name])]:
        raise ValueError(f"net.{odd[0]} should be a SHA-256; found {values[odd[0]]!r:.80}")
    return NetFile(**values)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
