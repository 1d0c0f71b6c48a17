"""Score predictions: the chance that a fake is ranked above a real video."""

from pathlib import Path
from typing import Any

import substratools

from unmask.federated import predictions


@substratools.register
def auc(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the area under the ROC of the videos that have a probability."""
    value = predictions.auc(inputs["datasamples"], Path(inputs["predictions"]))
    substratools.save_performance(value, outputs["performance"])


if __name__ == "__main__":
    substratools.execute()
