"""What the wheel and the source distribution hold besides the code: the demonstration model.

`make wheel` names a model's folder by UNMASK_WHEEL_MODEL, such as `model`, and its files go into
the package as unmask/demonstration. Without the variable nothing but the code is packed, which is
what functions of the federated benchmark and images of training jobs travel with.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "UNMASK_WHEEL_MODEL"
PLACES = {"wheel": "unmask/demonstration", "sdist": "src/unmask/demonstration"}
NEEDED = ("checkpoint.json", "net.onnx", "weights.safetensors", "MODEL_CARD.md")
FILES = (*NEEDED, "history.csv")  # and nothing else that lies there


class ModelHook(BuildHookInterface[Any]):
    """Adds the model's files to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files that are added; say so where there are none.

        Raises:
            FileNotFoundError: the folder lacks a file that answers are made with.
        """
        if version == "editable":
            return
        root, named = Path(self.root), os.environ.get(VARIABLE)
        if named:
            found = files_of(root / named)
            place = PLACES[self.target_name]
            build_data["force_include"] |= {str(p): f"{place}/{p.name}" for p in found}
        elif not (root / PLACES["sdist"]).is_dir():  # as it is in a source distribution
            self.app.display_warning(
                f"This {self.target_name} of unmask holds no model: `unmask predict` will ask for "
                f"one by --model. {VARIABLE}=model packs the one that `make repro` made."
            )


def files_of(folder: Path) -> list[Path]:
    """Return the files of a model that are packed.

    Raises:
        FileNotFoundError: one is missing that answers are made with.
    """
    if missing := [name for name in NEEDED if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"Asked to pack the model in {folder} ({VARIABLE}); found no {', '.join(missing)} "
            "there. Run `make repro`, which makes them, or unset the variable."
        )
    return [folder / name for name in FILES if (folder / name).is_file()]
