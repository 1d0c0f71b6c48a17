"""Files in the ONNX format that ask for more than a net may: made by the format's own package."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unmask.engine import openvino_net
from unmask.engine.onnx_file import check_self_contained
from unmask.engine.openvino_net import BatchNet, OpenVinoNet
from unmask.errors import WeightsError


def weights(values=(1.0, 2.0)):
    return helper.make_tensor("w", TensorProto.FLOAT, [2], np.array(values, np.float32).tobytes(),
                              raw=True)  # fmt: skip


def elsewhere(path):
    """Return weights that are said to lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(path)), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def net(*nodes, initializers=()):
    """Return the content of a net from x to y, which adds w if no nodes are given."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    nodes = nodes or (helper.make_node("Add", ["x", "w"], ["y"]),)
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_net_with_its_weights_is_read():
    content = net(initializers=[weights()]).SerializeToString()
    check_self_contained(content)
    (found,) = OpenVinoNet(content, threads=1).run([np.array([10.0, 20.0], np.float32)])
    assert found["y"].tolist() == [11, 22]


@pytest.mark.parametrize("where", ["secret", "{}/secret", "../{}/secret"])
def test_no_file_that_it_names_is_read(tmp_path, monkeypatch, where):
    (tmp_path / "secret").write_bytes(np.array([3.0, 4.0], np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    content = net(initializers=[elsewhere(where.format(tmp_path))]).SerializeToString()
    for read in (lambda: OpenVinoNet(content, threads=1), lambda: BatchNet(content)):
        with pytest.raises(WeightsError, match=r"in another file\. Fetch the model again"):
            read()


def hidden_in_an_attribute(tmp_path):
    tensor = elsewhere(tmp_path)
    tensor.name = ""
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    return net(node, helper.make_node("Add", ["x", "w"], ["y"]))


def hidden_in_a_sparse_tensor(tmp_path):
    model = net()
    sparse = model.graph.sparse_initializer.add(dims=[2])
    sparse.values.CopyFrom(elsewhere(tmp_path))
    return model


def hidden_in_a_second_graph(tmp_path):
    """Protobuf joins two fields of a message that may be there once."""
    first, second = net(initializers=[weights()]), net(initializers=[elsewhere(tmp_path)])
    joined = first.SerializeToString() + second.SerializeToString()
    assert len(onnx.ModelProto.FromString(joined).graph.initializer) == 2
    return joined


def without_the_location(tmp_path):
    tensor = elsewhere(tmp_path)
    tensor.data_location = TensorProto.DEFAULT
    return net(initializers=[tensor])


def a_loop(_):
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("more", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])],
    )  # fmt: skip
    return net(helper.make_node("Loop", ["", "true"], [], body=body))


def an_operation_of_others(_):
    return net(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"))


def a_function(_):
    model = net(initializers=[weights()])
    model.functions.add(name="f", domain="own")
    return model


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (hidden_in_an_attribute, "in another file"),
        (hidden_in_a_sparse_tensor, "in another file"),
        (hidden_in_a_second_graph, "in another file"),
        (without_the_location, "in another file"),
        (a_loop, "a loop or a branch"),
        (an_operation_of_others, "none of ONNX's own"),
        (a_function, "defines functions"),
    ],
)
def test_what_no_net_of_ours_has_is_refused(tmp_path, make, why):
    content = make(tmp_path)
    content = content if isinstance(content, bytes) else content.SerializeToString()
    with pytest.raises(WeightsError, match=why) as error:
        OpenVinoNet(content, threads=1)
    assert "\n" not in str(error.value)


LAYER = '<layer id="{}" name="{}" type="{}" version="opset1">{}</layer>'
PORT = '<port id="0" precision="FP32"><dim>1</dim></port>'
DATA = '<data shape="1" element_type="f32"/>'
IR = f"""<net name="n" version="11"><layers>
{LAYER.format(0, "x", "Parameter", f"{DATA}<output>{PORT}</output>")}
{LAYER.format(1, "y", "Result", f"<input>{PORT}</input>")}
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"""


@pytest.mark.parametrize("before", ["", "<!-- -->", "words"])
@pytest.mark.parametrize("place", ["producer_name", "doc_string", "domain"])
def test_a_net_that_is_openvino_s_own_xml_too_is_refused(before, place):
    """OpenVINO tells formats by their content, and asks for its own first."""
    model = net(initializers=[weights()])
    model.graph.Clear()  # no zero byte comes before the text
    setattr(model, place, before + IR)
    content = model.SerializeToString()
    read = openvino_net._core().read_model(content)
    assert [step.get_type_name() for step in read.get_ops()] == ["Parameter", "Result"]
    with pytest.raises(WeightsError, match="a file of another format"):
        OpenVinoNet(content, threads=1)


def test_openvino_reads_no_xml_behind_a_zero_byte():
    model = net(helper.make_node("Add", ["x", "w"], ["y"]), initializers=[weights()])
    model.producer_name, model.doc_string = "\0", IR
    content = model.SerializeToString()
    (found,) = OpenVinoNet(content, threads=1).run([np.array([10.0, 20.0], np.float32)])
    assert found["y"].tolist() == [11, 22]


def test_a_name_of_sixty_letters_is_no_xml():
    name = "net.blocks." + "a" * 49
    node = helper.make_node("Add", ["x", "w"], ["y"], name=name)
    content = net(node, initializers=[weights()]).SerializeToString()
    assert b"<net.blocks" in content
    check_self_contained(content)


def test_a_net_that_is_onnx_runtime_s_own_format_too_is_refused():
    # The version in two bytes, then the maker's name of four letters.
    model = net(initializers=[weights()])
    model.producer_name = "ORTM"
    content = model.SerializeToString()
    assert content[4:8] == b"ORTM"
    with pytest.raises(WeightsError, match="a file of another format"):
        check_self_contained(content)


def test_a_net_that_has_the_first_message_of_other_formats_is_refused():
    content = net(initializers=[weights()]).SerializeToString()
    node = b"\x0a\x04\x0a\x02no"  # the field 1, with a name: TensorFlow's node, Paddle's block
    with pytest.raises(WeightsError, match="a file of another format"):
        check_self_contained(content + node)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x08", b"\x08\x08", b"<net version='11'/>", b"\x3b\x3c", b"\x3a\x7fab",
        b"\x38\x01", b"\xff" * 20, b"\x3a\x02\x0a", b"\x08\x08" * 600_000,
    ],
)  # fmt: skip
def test_what_is_no_net_is_refused(content):
    with pytest.raises(WeightsError, match="this one is refused"):
        check_self_contained(content)


def test_a_net_that_wants_all_memory_is_refused_before_it_runs():
    big = helper.make_tensor("size", TensorProto.INT64, [2], [2**20, 2**20])
    content = net(
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
        initializers=[big],
    ).SerializeToString()
    with pytest.raises(WeightsError, match="At most 536,870,912 can be had"):
        OpenVinoNet(content, threads=1).prepare((2,))


def test_an_input_that_a_net_does_not_take_is_refused():
    content = net(initializers=[weights()]).SerializeToString()
    with pytest.raises(WeightsError, match=r"what it makes of \[1, 3\]; OpenVINO can't"):
        OpenVinoNet(content, threads=1).prepare((3,))
