"""What every engine offers: a net that is given one input after the other."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]  # by name, without the direction of the batch


class Net(Protocol):
    """A net that is ready to run."""

    outputs: tuple[str, ...]  # the names of what it gives

    def run(self, inputs: Iterable[Values]) -> Iterator[Outputs]:
        """Yield what the net makes of each input, in order.

        Inputs are taken a few ahead of the outputs that were asked for.
        """
