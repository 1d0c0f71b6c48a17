"""Score an organisation's videos with a model."""

import logging
import os
from pathlib import Path
from typing import Any

import substratools

from unmask.federated import tasks


@substratools.register
def predict(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write each video's probability to be fake, or why it has none."""
    tasks.predict(
        inputs["datasamples"], Path(inputs["model"]), Path(outputs["predictions"]), Path(),
        workers=os.cpu_count() or 1,
    )  # fmt: skip


if __name__ == "__main__":  # training's workers import this file again
    logging.basicConfig(level=logging.INFO)
    substratools.execute()
