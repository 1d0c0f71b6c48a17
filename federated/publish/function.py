"""Hand out the model that was packed beside this file, so that a plan can score it untrained."""

from pathlib import Path
from typing import Any

import substratools

from unmask.federated import state


@substratools.register
def publish(inputs: dict[str, Any], outputs: dict[str, str], task_properties: Any) -> None:  # noqa: ARG001  # Substra's
    """Write the archive's model once it is checked, as each organisation checks it again."""
    state.hand_on(Path(state.MODEL), Path(outputs["model"]))


if __name__ == "__main__":
    substratools.execute()
