"""Average models that organisations trained, weighted by how much each was trained on."""

from pathlib import Path
from typing import Any

import substratools

from unmask.federated import state


@substratools.register
def aggregate(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the mean of the states `models`."""
    state.average([Path(path) for path in inputs["models"]], Path(outputs["model"]))


if __name__ == "__main__":
    substratools.execute()
