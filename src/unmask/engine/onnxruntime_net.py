"""Portable nets on CPUs that OpenVINO has no wheel for, by ONNX Runtime (owns onnxruntime)."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmask.engine.net import Outputs, Values
from unmask.engine.onnx_file import check_self_contained
from unmask.errors import WeightsError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


# What all nets of a process may take together. A ViT-L has weights of 1.2 GB, and its largest value
# over 32 frames has 0.7 GB; a stranger's net may ask for any number in a line of its file.
_MOST_BYTES = 4 * 2**30 + 2 * 2**30 * (os.cpu_count() or 1)


class OnnxRuntimeNet:
    """A net in the ONNX format. It takes one input at a time, on one thread each.

    So an output has the same bits whatever else is asked for, on however many threads.

    Raises:
        WeightsError: the content is no net.
    """

    def __init__(self, content: bytes, *, threads: int) -> None:
        self._session, self._threads = _session(content), threads
        self._input = self._session.get_inputs()[0].name
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, inputs: Iterable[Values]) -> Iterator[Outputs]:
        """Yield what the net makes of each input, in order.

        Raises:
            WeightsError: the net takes no such input.
        """
        busy: deque[Future[Outputs]] = deque()
        with ThreadPoolExecutor(self._threads) as threads:
            for each in inputs:
                if len(busy) >= self._threads:
                    yield busy.popleft().result()
                busy.append(threads.submit(self._run, each))
            while busy:
                yield busy.popleft().result()

    def _run(self, value: Values) -> Outputs:
        made = _run(self._session, self._input, np.asarray(value[None], np.float32))
        return {name: values[0] for name, values in zip(self.outputs, made, strict=True)}


class OnnxRuntimeBatchNet:
    """A small net in the ONNX format that is given batches of any shape, on one thread.

    Raises:
        WeightsError: the content is no net.
    """

    def __init__(self, content: bytes) -> None:
        self._session = _session(content)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs, in the net's order."""
        made = _run(self._session, self._input, np.ascontiguousarray(batch))
        return tuple(np.asarray(values, np.float32) for values in made)


def _session(content: bytes) -> "InferenceSession":
    # Else it writes an identifier into the user's home when it is imported, and tells its makers of
    # its use, a little even where the function below is called.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    check_self_contained(content)
    onnxruntime.disable_telemetry_events()  # builds for Windows' apps look at this alone
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")  # those with the limit
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.load_model_format", "ONNX")  # and no form of its own
    options.log_severity_level = 3  # errors: they are raised, too
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf,
        state.NotImplemented, state.RuntimeException,
    ) as error:  # fmt: skip
        words = " ".join(str(error).split())
        raise WeightsError(
            f"Asked for a net in the ONNX format; ONNX Runtime can't read this one: {words:.300}"
        ) from error


@cache
def _limit_memory() -> None:
    """Give this process's nets one store of memory, which refuses to grow beyond _MOST_BYTES."""
    import onnxruntime

    store = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
        onnxruntime.OrtMemType.DEFAULT,
    )  # fmt: skip
    limit = onnxruntime.OrtArenaCfg({"max_mem": _MOST_BYTES})
    onnxruntime.create_and_register_allocator(store, limit)


def _run(session: "InferenceSession", name: str, batch: NDArray[Any]) -> list[NDArray[Any]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        made: list[NDArray[Any]] = session.run(None, {name: batch})
    except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
        words = " ".join(str(error).split())
        raise WeightsError(
            f"Asked a net in the ONNX format for what it makes of {list(batch.shape)}; ONNX "
            f"Runtime can't: {words:.300}"
        ) from error
    return made
