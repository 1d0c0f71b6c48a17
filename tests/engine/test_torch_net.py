"""Batches of torch's, one answer each, in order."""

import numpy as np
import torch
from torch import nn

from unmask.engine.torch_net import AT_ONCE, TorchNet


class Sums(nn.Module):
    """Gives each input's sum and its double, and remembers how many came at once."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, values_BN):
        self.batches.append(tuple(values_BN.shape))
        return values_BN.sum(1), 2 * values_BN


def test_answers_come_in_order_whatever_their_number_and_size():
    module = Sums()
    net = TorchNet(module, ["sum", "double"], device="cpu:0", threads=1)  # treated as a GPU is
    inputs = [np.full(3, n, np.float32) for n in range(AT_ONCE + 1)]
    inputs += [np.full(5, n, np.float32) for n in range(2)]
    answers = list(net.run(iter(inputs)))
    assert [float(each["sum"]) for each in answers] == [*range(0, 3 * AT_ONCE + 3, 3), 0, 5]
    assert answers[-1]["double"].tolist() == [2.0] * 5
    assert module.batches == [(AT_ONCE, 3), (1, 3), (2, 5)]


def test_nothing_asked_is_nothing_answered():
    assert list(TorchNet(Sums(), ["sum", "double"], device="cpu", threads=1).run([])) == []


def test_a_cpu_is_given_one_input_at_a_time():
    """So no output depends on which inputs came with it."""
    module = Sums()
    list(
        TorchNet(module, ["sum", "double"], device="cpu", threads=1).run(
            [np.ones(3, np.float32)] * 3
        )
    )
    assert module.batches == [(1, 3)] * 3


def test_a_cpu_s_threads_are_as_many_as_asked_for_and_never_more():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for asked, found in ((5, 3), (2, 2), (4, 2)):
            TorchNet(Sums(), ["sum", "double"], device="cpu", threads=asked)
            assert torch.get_num_threads() == found
    finally:
        torch.set_num_threads(before)
