"""torchvision comes without torch's compiler, and both work afterwards as they always do."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from unmask.runtime.without_compiler import without_compiler

# A box over the top left quarter of a picture of ones, twos, threes and fours, a quarter each.
SCRIPT = """
import sys
import unmask.faces.cascade, unmask.models.backbones
assert "torchvision" in sys.modules
assert "torch._dynamo" not in sys.modules, "imported with torchvision"
import torch, torchvision
picture = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
cut = torchvision.ops.roi_align(
    picture[None, None], [torch.tensor([[1.0, 1.0, 2.0, 2.0]])], (1, 1), sampling_ratio=1
)
assert cut.item() == 2.5, cut  # in the middle between the four
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
assert asked("meta") is False
import torch._dynamo.utils
assert asked("meta") is torch._dynamo.utils.is_compile_supported("meta")
assert asked.__module__ == "unmask.runtime.without_compiler"
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2
"""


def test_the_compiler_is_not_loaded_and_can_be_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_is_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ModuleType("torch._dynamo")
    monkeypatch.setitem(sys.modules, "torch._dynamo", loaded)
    before = dict(sys.modules)
    with without_compiler():
        assert sys.modules["torch._dynamo"] is loaded
    assert sys.modules == before


def test_an_import_that_fails_leaves_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch._dynamo")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="not_there"), without_compiler():
        import_module("torch._dynamo.not_there")
    assert "torch._dynamo" not in sys.modules
    assert "torch._dynamo.utils" not in sys.modules
