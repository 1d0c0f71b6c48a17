"""Where the package's three nets of MTCNN come from: facenet-pytorch, which has them trained.

`python -m unmask.faces.mtcnn_source` writes them anew, to the same bytes.
"""

import io
import warnings

import torch
from facenet_pytorch import MTCNN
from torch import nn

from unmask.faces.cascade import NETS, OUTPUTS, net_path
from unmask.runtime.disk import write_atomically

_OPSET = 18


class OnPictures(nn.Module):
    """A net of facenet-pytorch's on pictures as they are stored: bytes, colours last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures_NHW3: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the net says, probabilities last."""
        scaled_N3HW = (pictures_NHW3.permute(0, 3, 1, 2).float() - 127.5) / 128
        said: tuple[torch.Tensor, ...] = self.net(scaled_N3HW)
        return said


def nets() -> dict[str, OnPictures]:
    """Return the three nets, trained, by our names."""
    whole = MTCNN(post_process=False).eval()
    own = zip(NETS, (whole.pnet, whole.rnet, whole.onet), strict=True)
    return {name: OnPictures(net).eval() for name, net in own}


def export(name: str, net: OnPictures) -> bytes:
    """Return a net in the ONNX format, for any number of pictures; of the first, of any size."""
    side_px = {"proposals": 40, "refinement": 24, "landmarks": 48}[name]
    pictures_NHW3 = torch.zeros(2, side_px, side_px, 3, dtype=torch.uint8)
    outputs = OUTPUTS[name]
    sizes = {each: {0: "pictures"} for each in ("pictures_NHW3", *outputs)}
    if name == "proposals":
        sizes["pictures_NHW3"] |= {1: "height", 2: "width"}
        for each in outputs:
            sizes[each] |= {2: "rows", 3: "columns"}
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # As in models/portable: the exporter that needs nothing that is not installed.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net, (pictures_NHW3,), written,  # type: ignore[arg-type]  # a file will do, too
            dynamo=False, opset_version=_OPSET, input_names=["pictures_NHW3"],
            output_names=list(outputs), dynamic_axes=sizes,
        )  # fmt: skip
    return written.getvalue()


def main() -> None:
    """Write the nets into the package."""
    for name, net in nets().items():
        write_atomically(net_path(name), export(name, net))


if __name__ == "__main__":
    main()
