"""One choice of what runs portable nets on a CPU, and the same interface of both."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from tests.engine.test_onnx_file import net, weights
from unmask.engine import on_cpu
from unmask.errors import UnmaskError


def install(monkeypatch, *names):
    """Have only these libraries be found."""
    found = dict.fromkeys(names, SimpleNamespace())
    monkeypatch.setattr(on_cpu, "find_spec", found.get)


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        (("onnxruntime", "openvino", "torch"), "openvino"),
        (("onnxruntime", "torch"), "onnxruntime"),
        (("torch",), None),
    ],
)
def test_openvino_comes_first(monkeypatch, installed, chosen):
    install(monkeypatch, *installed)
    assert on_cpu.library() == chosen


def test_without_either_it_says_what_to_install(monkeypatch):
    install(monkeypatch, "torch")
    for make in (lambda: on_cpu.batch_net(b""), lambda: on_cpu.portable_net(b"", (2,), threads=1)):
        with pytest.raises(UnmaskError, match=r"pip install openvino.*pip install onnxruntime"):
            make()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_each_gives_the_same_numbers(monkeypatch, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: what it would give is not tested")
    install(monkeypatch, name)
    content = net(initializers=[weights()]).SerializeToString()
    rows = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    made = list(on_cpu.portable_net(content, (2,), threads=2).run(iter(rows)))
    assert [each["y"].tolist() for each in made] == [[2, 4], [4, 6], [6, 8]]
    (found,) = on_cpu.batch_net(content)(rows)
    assert found.tolist() == [[2, 4], [4, 6], [6, 8]]
