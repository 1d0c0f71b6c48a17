"""Nets of torch's: on a GPU, or where they have no portable form, or nothing else runs it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unmask.engine.net import Outputs, Values

if TYPE_CHECKING:
    import torch
    from torch import nn

AT_ONCE = 16  # on a GPU


class TorchNet:
    """A module that maps a batch of inputs to several batches of outputs.

    GPUs need batches: there an output may differ in its last digit by which inputs share its own.
    A CPU is given one input at a time, on at most `threads` threads. Torch has one number of these
    for the whole process, so a smaller one stays.
    """

    def __init__(
        self,
        module: "nn.Module",
        outputs: Sequence[str],
        *,
        device: "str | torch.device",
        threads: int,
    ) -> None:
        import torch

        self._module = module.eval().to(device)
        self._device = device
        self._at_once = AT_ONCE
        if str(device) == "cpu":
            self._at_once = 1
            torch.set_num_threads(min(threads, torch.get_num_threads()))
        self.outputs = tuple(outputs)

    def run(self, inputs: Iterable[Values]) -> Iterator[Outputs]:
        """Yield what the net makes of each input, in order."""
        batch: list[Values] = []
        for each in inputs:
            if len(batch) == self._at_once or (batch and each.shape != batch[0].shape):
                yield from self._forward(batch)
                batch = []
            batch.append(each)
        if batch:
            yield from self._forward(batch)

    def _forward(self, batch: Sequence[Values]) -> Iterator[Outputs]:
        import torch

        with torch.inference_mode():
            given = torch.from_numpy(np.stack(batch)).to(self._device)
            made = [values.float().cpu().numpy() for values in self._module(given)]
        for place in range(len(batch)):
            named = zip(self.outputs, made, strict=True)
            yield {name: values[place] for name, values in named}
