"""torchvision in half the time: its import loads torch's compiler, which nothing here uses."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_COMPILER, _TAKEN_FROM = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let torchvision be imported within, and nothing else, without torch's compiler.

    torchvision.ops.roi_align takes one function from the compiler (torch._dynamo), whose import
    costs as much time as torch itself; each worker process and each command would pay it. Within,
    that function stands alone and imports the compiler when it is called. Afterwards the compiler
    can be imported as usual. Does nothing where the compiler is loaded already.
    """
    if _COMPILER in sys.modules:
        yield
        return
    taken_from = ModuleType(_TAKEN_FROM)
    taken_from.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    stand_ins = {_COMPILER: ModuleType(_COMPILER), _TAKEN_FROM: taken_from}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    found: bool = is_compile_supported(device_type)
    return found
