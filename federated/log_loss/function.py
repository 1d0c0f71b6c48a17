"""Score predictions: the mean log loss, lower is better."""

from pathlib import Path
from typing import Any

import substratools

from unmask.federated import predictions


@substratools.register
def log_loss(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the log loss of the videos that have a probability."""
    value = predictions.log_loss(inputs["datasamples"], Path(inputs["predictions"]))
    substratools.save_performance(value, outputs["performance"])


if __name__ == "__main__":
    substratools.execute()
