"""Score predictions: the share of videos that have one."""

from pathlib import Path
from typing import Any

import substratools

from unmask.federated import predictions


@substratools.register
def coverage(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the share of videos that have a probability."""
    value = predictions.coverage(inputs["datasamples"], Path(inputs["predictions"]))
    substratools.save_performance(value, outputs["performance"])


if __name__ == "__main__":
    substratools.execute()
