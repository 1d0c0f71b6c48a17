"""Train on an organisation's videos, from the archive's weights or from another model's."""

from pathlib import Path
from typing import Any

import substratools

from unmask import federated_tasks
from unmask.doors import set_up_logging, workers


@substratools.register
def train(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the trained model's state; `start` is the state to begin with, where there is one."""
    start = inputs.get("start")
    federated_tasks.train(
        inputs["datasamples"], Path("settings.json"), Path(start) if start else None,
        Path(outputs["model"]), Path(), workers=workers(),
    )  # fmt: skip


if __name__ == "__main__":  # training's workers import this file again
    set_up_logging()
    substratools.execute()
