"""Score an organisation's videos with a model."""

from pathlib import Path
from typing import Any

import substratools

from unmask import federated_tasks
from unmask.doors import set_up_logging, workers


@substratools.register
def predict(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write each video's probability to be fake, or why it has none."""
    federated_tasks.predict(
        inputs["datasamples"], Path(inputs["model"]), Path(outputs["predictions"]), Path(),
        workers=workers(),
    )  # fmt: skip


if __name__ == "__main__":  # training's workers import this file again
    set_up_logging()
    substratools.execute()
