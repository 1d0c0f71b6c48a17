"""Train on an organisation's videos, from the archive's weights or from another model's."""

import logging
import os
from pathlib import Path
from typing import Any

import substratools

from unmask.federated import tasks


@substratools.register
def train(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the trained model's state; `start` is the state to begin with, where there is one."""
    start = inputs.get("start")
    tasks.train(
        inputs["datasamples"], Path("settings.json"), Path(start) if start else None,
        Path(outputs["model"]), Path(), workers=os.cpu_count() or 1,
    )  # fmt: skip


if __name__ == "__main__":  # training's workers import this file again
    logging.basicConfig(level=logging.INFO)
    substratools.execute()
