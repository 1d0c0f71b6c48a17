"""Portable nets where OpenVINO has no wheel: the same promises."""

import numpy as np
import psutil
import pytest
from onnx import helper, numpy_helper

from tests.engine.test_onnx_file import elsewhere, net, weights
from tests.engine.test_openvino_net import pictures, small  # noqa: F401  # a fixture
from unmask.engine import onnxruntime_net
from unmask.engine.onnxruntime_net import OnnxRuntimeBatchNet, OnnxRuntimeNet
from unmask.engine.openvino_net import OpenVinoNet
from unmask.errors import WeightsError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its nets are not tested")


def test_it_gives_what_openvino_gives_in_order(small):  # noqa: F811
    given = pictures(7)
    found = list(OnnxRuntimeNet(small[1], threads=2).run(iter(given)))
    for mine, theirs in zip(found, OpenVinoNet(small[1], threads=2).run(given), strict=True):
        assert list(mine) == list(theirs)
        assert mine["logits"] == pytest.approx(theirs["logits"], abs=1e-5)
        assert mine["most"] == theirs["most"]


def test_neighbours_threads_and_order_change_no_bit(small):  # noqa: F811
    given = pictures(9)
    alone = [next(OnnxRuntimeNet(small[1], threads=1).run([each]))["logits"] for each in given]
    for threads in (1, 2, 3):
        found = OnnxRuntimeNet(small[1], threads=threads).run(given[::-1])
        assert np.array_equal([each["logits"] for each in found], alone[::-1])


def test_inputs_are_taken_no_more_than_a_few_ahead(small):  # noqa: F811
    taken = []

    def inputs():
        for each in pictures(9):
            taken.append(each)
            yield each

    answers = OnnxRuntimeNet(small[1], threads=2).run(inputs())
    next(answers)
    assert len(taken) == 3
    answers.close()


def test_what_is_no_net_or_names_a_file_is_refused_in_one_line(tmp_path):
    hostile = net(initializers=[elsewhere(tmp_path)]).SerializeToString()
    without_weights = net().SerializeToString()
    for content, why in (
        (b"no net", "this one is refused"), (hostile, "in another file"),
        (without_weights, "ONNX Runtime can't read"),
    ):  # fmt: skip
        with pytest.raises(WeightsError, match=why) as error:
            OnnxRuntimeNet(content, threads=1)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_constant", [False, True])
def test_a_net_that_asks_for_more_memory_than_it_may_have_is_refused(is_constant):
    """A line of its file asks for twice of that. The process goes on, and answers by other nets."""
    numbers = onnxruntime_net._MOST_BYTES // 2  # of four bytes each
    shape = numpy_helper.from_array(np.array([numbers], np.int64), "shape")
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    most = helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0)
    grown = helper.make_node("Expand", ["one" if is_constant else "most", "shape"], ["grown"])
    nodes = [most, grown, helper.make_node("ReduceMean", ["grown"], ["mean"], keepdims=0)]
    content = net(
        *nodes, helper.make_node("Add", ["x", "mean"], ["y"]), initializers=[shape, one]
    ).SerializeToString()
    before = psutil.Process().memory_info().rss
    with pytest.raises(WeightsError, match=r"of \[1, 2\]; ONNX Runtime can't: .*memory"):
        list(OnnxRuntimeNet(content, threads=1).run([np.ones(2, np.float32)]))
    assert psutil.Process().memory_info().rss < before + 2**30
    content = net(initializers=[weights()]).SerializeToString()
    (found,) = OnnxRuntimeNet(content, threads=1).run([np.array([10.0, 20.0], np.float32)])
    assert found["y"].tolist() == [11, 22]


def test_an_input_that_a_net_does_not_take_is_refused():
    content = net(initializers=[weights()]).SerializeToString()
    wrong = np.ones((1, 3), np.float32)
    for ask in (
        lambda: list(OnnxRuntimeNet(content, threads=1).run(wrong)),
        lambda: OnnxRuntimeBatchNet(content)(wrong),
    ):
        with pytest.raises(WeightsError, match=r"of \[1, 3\]; ONNX Runtime can't"):
            ask()
