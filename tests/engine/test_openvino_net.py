"""Portable nets on the CPU: one input at a time, the same bits whatever else is asked."""

import io
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from unmask.engine.openvino_net import BatchNet, OpenVinoNet
from unmask.errors import UnmaskError, WeightsError


class Small(nn.Module):
    """A net with a bit of everything: convolution, normalisation, a hidden layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 2),
        )  # fmt: skip

    def forward(self, pictures_N3HW):
        logits_N2 = self.body(pictures_N3HW)
        return logits_N2, pictures_N3HW.amax((1, 2, 3))


def onnx_of(module, picture):
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (picture,), written, dynamo=False, opset_version=17, input_names=["pictures"],
            output_names=["logits", "most"],
            dynamic_axes={name: {0: "n"} for name in ("logits", "most")}
            | {"pictures": {0: "n", 2: "h", 3: "w"}},
        )  # fmt: skip
    return written.getvalue()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(1)
    module = Small().eval()
    return module, onnx_of(module, torch.zeros(2, 3, 8, 8))


def pictures(count, *, side=24):
    rng = np.random.default_rng(count)
    return [rng.normal(0, 1, (3, side, side)).astype(np.float32) for _ in range(count)]


def test_it_gives_what_torch_gives_in_order(small):
    module, content = small
    given = pictures(7)
    net = OpenVinoNet(content, threads=2)
    assert net.outputs == ("logits", "most")
    with torch.inference_mode():
        logits_N2, most_N = module(torch.from_numpy(np.stack(given)))
    found = list(net.run(iter(given)))
    assert np.stack([each["logits"] for each in found]) == pytest.approx(
        logits_N2.numpy(), abs=1e-5
    )
    assert [float(each["most"]) for each in found] == most_N.tolist()


def test_neighbours_threads_and_order_change_no_bit(small):
    _, content = small
    given = pictures(9)
    alone = [next(OpenVinoNet(content, threads=1).run([each]))["logits"] for each in given]
    for threads in (1, 2, 3):
        net = OpenVinoNet(content, threads=threads)
        for order in (given, given[::-1]):
            found = [each["logits"] for each in net.run(order)]
            assert np.array_equal(found, alone if order is given else alone[::-1])


def test_inputs_of_two_sizes_may_come_together(small):
    _, content = small
    given = [*pictures(2), *pictures(3, side=11)]
    found = [each["most"] for each in OpenVinoNet(content, threads=2).run(given)]
    assert found == [each.max() for each in given]
    assert list(OpenVinoNet(content, threads=2).run([])) == []


def test_inputs_are_taken_no_more_than_a_few_ahead(small):
    """Or all clips of an hour would wait in memory."""
    taken = []

    def inputs():
        for each in pictures(9):
            taken.append(each)
            yield each

    answers = OpenVinoNet(small[1], threads=2).run(inputs())
    next(answers)
    assert len(taken) == 3
    answers.close()


@pytest.mark.parametrize("content", [b"", b"no net", b"\x08\x08" + bytes(100)])
def test_what_is_no_net_is_refused_in_one_line(content):
    with pytest.raises(WeightsError, match="ONNX format") as error:
        OpenVinoNet(content, threads=1)
    assert "\n" not in str(error.value)


def test_it_imports_neither_torch_nor_what_reports_its_use(small):
    code = (
        "import sys; from unmask.engine.openvino_net import OpenVinoNet;"
        "OpenVinoNet(sys.stdin.buffer.read(), threads=1);"
        "print([n for n in ('torch', 'openvino_telemetry', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=small[1], capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"


AFTER_NETS = """
import os, signal, sys
from unmask.engine.openvino_net import BatchNet, OpenVinoNet
content = sys.stdin.buffer.read()
nets = [OpenVinoNet(content, threads=1), BatchNet(content), BatchNet(content)]
nets[0].prepare((3, 8, 8))
while nets:
    del nets[0]
signal.signal(signal.SIGCHLD, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGCHLD)
"""


def test_a_signal_is_heard_after_nets_have_gone_in_any_order(small):
    """OpenVINO gives the thread a stack for signals on some processors: it must not be freed."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER_NETS], input=small[1], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"heard\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_told_instead_of_waiting_for_ever(small):
    (given,) = pictures(1)
    net, batches = OpenVinoNet(small[1], threads=2), BatchNet(small[1])
    ways = [
        lambda: list(net.run([given])),
        lambda: batches(given[None]),
        lambda: OpenVinoNet(small[1], threads=1),
        lambda: BatchNet(small[1]),
    ]
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # OpenVINO would wait for threads that are not there
        told = 0
        for way in ways:
            try:
                way()
            except UnmaskError as error:
                told += "forked" in str(error)
        os._exit(0 if told == len(ways) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(net.run([given]))) == 1  # the parent goes on
