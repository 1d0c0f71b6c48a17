"""Portable nets on the CPU, by OpenVINO (owns openvino)."""

import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmask.engine.net import Outputs, Values
from unmask.engine.onnx_file import check_self_contained
from unmask.errors import UnmaskError, WeightsError

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

# 32 bit even where the processor has narrower numbers, which OpenVINO would choose by itself; and
# no thread tied to a core, as other processes have theirs on the same ones.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": "NO"}
_CONVERTERS = "openvino.tools.ovc"
_MOST_NUMBERS = 2**29  # in one value of a net, 2 GB; a ViT-L's attention over 32 frames has a third


class OpenVinoNet:
    """A net in the ONNX format. It takes one input at a time, on one thread each.

    So an output has the same bits whatever else is asked for, on however many threads.

    Raises:
        UnmaskError: the process was forked from one that had used such nets.
        WeightsError: the content is no net.
    """

    def __init__(self, content: bytes, *, threads: int) -> None:
        self._model = _read(_core(), content)
        self._threads = threads
        self._compiled: dict[tuple[int, ...], CompiledModel] = {}
        self.outputs = tuple(output.get_any_name() for output in self._model.outputs)

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Compile the net for inputs of that shape, which takes up to a second.

        Raises:
            WeightsError: the net takes no such input, or makes too much of it.
        """
        if shape not in self._compiled:
            _reshape(self._model, [1, *shape])
            threads = {"NUM_STREAMS": self._threads, "INFERENCE_NUM_THREADS": self._threads}
            self._compiled[shape] = _core().compile_model(self._model, "CPU", _EXACT | threads)

    def run(self, inputs: Iterable[Values]) -> Iterator[Outputs]:
        """Yield what the net makes of each input, in order."""
        _core()  # in a forked process its threads are missing, and nothing would ever come
        free: dict[tuple[int, ...], list[InferRequest]] = {}
        busy: deque[tuple[InferRequest, tuple[int, ...]]] = deque()

        def finish() -> Outputs:
            request, shape = busy.popleft()
            request.wait()
            free[shape].append(request)
            return {
                name: self._without_batch(request.get_tensor(name).data) for name in self.outputs
            }

        try:
            for each in inputs:
                self.prepare(each.shape)
                if len(busy) >= self._threads:
                    yield finish()
                waiting = free.setdefault(each.shape, [])
                compiled = self._compiled[each.shape]
                request = waiting.pop() if waiting else compiled.create_infer_request()
                # The request keeps the array that it is given until it is done.
                request.start_async([np.ascontiguousarray(each[None], np.float32)])
                busy.append((request, each.shape))
            while busy:
                yield finish()
        finally:
            for request, _ in busy:  # whoever asked has gone
                request.wait()

    @staticmethod
    def _without_batch(values: NDArray[Any]) -> NDArray[Any]:
        kept: NDArray[Any] = values[0].copy()  # the request's own is written anew
        return kept


class BatchNet:
    """A small net in the ONNX format that is given batches of any shape, on one thread.

    More threads might change a sum's last digit.

    Raises:
        UnmaskError: the process was forked from one that had used such nets.
        WeightsError: the content is no net.
    """

    def __init__(self, content: bytes) -> None:
        core = _core()
        threads = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
        compiled = core.compile_model(_read(core, content), "CPU", _EXACT | threads)
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))

    def __call__(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs, in the net's order. Not safe for two threads at a time."""
        _core()
        from openvino import Tensor

        # By a tensor, as `infer` takes longer to look at its arguments than the smallest nets run.
        given = np.ascontiguousarray(batch)
        self._request.set_input_tensor(Tensor(given, shared_memory=True))
        self._request.start_async()
        self._request.wait()
        made = [self._request.get_output_tensor(number).data for number in self._outputs]
        return tuple(np.array(values, np.float32) for values in made)


def _core() -> "Core":
    core, process = _core_and_process()
    if process != os.getpid():
        raise UnmaskError(
            "Asked a net for an answer in a process that was forked from one that had used nets; "
            "OpenVINO's threads are not there. Start the process by multiprocessing's \"spawn\" or "
            '"forkserver", or use no net before the fork.'
        )
    return core


@cache
def _core_and_process() -> "tuple[Core, int]":
    # One Core, as long as the process lives. On processors with AMX each gives the thread that
    # makes it a stack for signals, and when it goes restores the stack of before. If of two Cores
    # the first goes first, the second restores a stack that is freed, and the next signal that
    # Python hears ends the process.
    #
    # Its converters would be imported too, which take a third of the time and bring along a package
    # that can tell its makers of their use. Nothing is converted here.
    hidden = _CONVERTERS not in sys.modules
    if hidden:
        sys.modules[_CONVERTERS] = None  # type: ignore[assignment]
    try:
        from openvino import Core
    finally:
        if hidden:
            del sys.modules[_CONVERTERS]
    return Core(), os.getpid()


def _read(core: "Core", content: bytes) -> Any:
    check_self_contained(content)
    try:
        return core.read_model(content)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise WeightsError(
            f"Asked for a net in the ONNX format; OpenVINO can't read this one: {words:.300}"
        ) from error


def _reshape(model: Any, shape: list[int]) -> None:
    """Give the net's input a shape; what a stranger's net makes of it must fit into memory."""
    asked = f"Asked a net in the ONNX format for what it makes of {shape}"
    try:
        model.reshape(shape)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise WeightsError(f"{asked}; OpenVINO can't: {words:.300}") from error
    for step in model.get_ops():
        for made in step.outputs():
            size = made.get_partial_shape()
            if size.is_dynamic or math.prod(size.to_shape()) > _MOST_NUMBERS:
                raise WeightsError(
                    f"{asked}; one of its steps, {step.get_type_name()}, makes {size} numbers. At "
                    f"most {_MOST_NUMBERS:,} can be had. Fetch the model again."
                )
