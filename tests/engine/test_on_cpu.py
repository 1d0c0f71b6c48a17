"""One choice of what runs portable nets on a CPU, and the same interface of both."""

import importlib.util
import os
import subprocess
import sys
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


QUIET = """
import sys
import numpy as np
from unmask.engine import on_cpu
on_cpu.find_spec = {sys.argv[1]: object()}.get
content = sys.stdin.buffer.read()
list(on_cpu.portable_net(content, (2,), threads=1).run([np.ones(2, np.float32)]))
on_cpu.batch_net(content)(np.ones((1, 2), np.float32))
print(sys.argv[1] in sys.modules, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_nothing_is_written_at_the_users_home(tmp_path, name):
    """Both come with what can tell their makers of their use: ONNX Runtime does, by default."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: what it would write is not tested")
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": str(home), "USERPROFILE": str(home), "APPDATA": str(home)}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    content = net(initializers=[weights()]).SerializeToString()
    done = subprocess.run(
        [sys.executable, "-c", QUIET, name], input=content,
        env=kept | places, cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [b"True", b"False"]
    assert list(home.iterdir()) == []
    assert list(tmp_path.iterdir()) == [home]
