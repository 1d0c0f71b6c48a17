"""Which library runs portable nets on this machine's CPU: OpenVINO, or what has a wheel for it.

The choice is made here, once for all that answers: so one machine gives one score.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from unmask.engine.net import Net
from unmask.errors import UnmaskError

if TYPE_CHECKING:
    from unmask.engine.onnxruntime_net import OnnxRuntimeBatchNet
    from unmask.engine.openvino_net import BatchNet

OPENVINO, ONNX_RUNTIME = "openvino", "onnxruntime"
INSTALL = (
    "`pip install openvino`; where that has no wheel, `pip install onnxruntime`, or "
    "`pip install 'unmask[train]'` for torch"
)


def library() -> str | None:
    """Return which one is installed, OpenVINO first; None where only torch may be."""
    return next((name for name in (OPENVINO, ONNX_RUNTIME) if find_spec(name) is not None), None)


def portable_net(content: bytes, shape: tuple[int, ...], *, threads: int) -> Net:
    """Return a net in the ONNX format, ready for inputs of that shape.

    Raises:
        UnmaskError: neither library is installed.
        WeightsError: the content is no net; with OpenVINO, or none for such inputs, which ONNX
            Runtime says at the first of them.
    """
    if _installed() == OPENVINO:
        from unmask.engine.openvino_net import OpenVinoNet

        net = OpenVinoNet(content, threads=threads)
        net.prepare(shape)
        return net
    from unmask.engine.onnxruntime_net import OnnxRuntimeNet

    return OnnxRuntimeNet(content, threads=threads)


def batch_net(content: bytes) -> "BatchNet | OnnxRuntimeBatchNet":
    """Return a small net in the ONNX format, which is given batches of any shape, on one thread.

    Raises:
        UnmaskError: neither library is installed.
        WeightsError: the content is no net.
    """
    if _installed() == OPENVINO:
        from unmask.engine.openvino_net import BatchNet

        return BatchNet(content)
    from unmask.engine.onnxruntime_net import OnnxRuntimeBatchNet

    return OnnxRuntimeBatchNet(content)


def _installed() -> str:
    if (found := library()) is None:
        raise UnmaskError(
            "Asked to run a net on this CPU; neither OpenVINO nor ONNX Runtime is installed. Run "
            f"{INSTALL}."
        )
    return found
