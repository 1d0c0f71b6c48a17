"""Which files of a model's folder a repository of the Hub gives and takes."""

from pathlib import Path

from unmask.errors import WeightsError
from unmask.models import looks, net_file
from unmask.runtime.digests import CALIBRATION, CARD, NET, SETTINGS, WEIGHTS

README = "README.md"  # what a repository calls its card
LOOKS = f"{CALIBRATION}/{looks.LOOKS}"
# What a model's folder gives to a repository, and takes from one: a file's name there, its name in
# the folder, and how many bytes it may have.
FILES = {
    SETTINGS: (SETTINGS, net_file.MOST_SETTINGS_BYTES),
    WEIGHTS: (WEIGHTS, 2**31),
    NET: (NET, net_file.MOST_BYTES),
    README: (CARD, 2**18),
    LOOKS: (LOOKS, 2**24),
    f"{CALIBRATION}/{SETTINGS}": (f"{CALIBRATION}/{SETTINGS}", net_file.MOST_SETTINGS_BYTES),
    f"{CALIBRATION}/{CARD}": (f"{CALIBRATION}/{CARD}", 2**18),
}


def check_weights(path: Path, subject: str) -> None:
    """Pass if a file is of safetensors, whose reading runs nothing. subject begins the message.

    Raises:
        WeightsError: it is another one, such as a pickle.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except SafetensorError as error:
        raise WeightsError(
            f"{subject} is no file of safetensors ({error!s:.200}); any other may run code when "
            "it is read. Nothing was done with it."
        ) from error
