"""FAIR's X3D, trained to name what people do: no detector, but a start for one.

Feichtenhofer, CVPR 2020, arXiv:2004.04730; code: github.com/facebookresearch/pytorchvideo.
"""

from collections.abc import Callable

from unmask.errors import WeightsError
from unmask.models.adopt.adapter import Adapter, ConvertedStart, Published
from unmask.models.adopt.record import Licence, X3d

_CLASSES = 400
_HEAD = "blocks.5.proj."


def _converting(backbone: X3d) -> Callable[[Published], ConvertedStart]:
    def convert(published: Published) -> ConvertedStart:
        head = published.tensors.get(f"{_HEAD}bias")
        if head is None or len(head) != _CLASSES:
            found = "no such layer" if head is None else f"{len(head)} classes"
            raise WeightsError(
                f"The file should be a net of Kinetics-400, whose last layer, {_HEAD[:-1]}, has "
                f"{_CLASSES} classes; found {found}. An X3D of your own needs no adoption: name "
                "its file in model.weights."
            )
        body = {
            name: value for name, value in published.tensors.items() if not name.startswith(_HEAD)
        }
        return ConvertedStart(backbone, body)

    return convert


def _adapter(backbone: X3d, size: str) -> Adapter:
    return Adapter(
        name=f"x3d-{size.lower()}-kinetics",
        title=f"X3D-{size} of Kinetics-400 (X3D_{size}.pyth)",
        repositories=(),
        files=(f"X3D_{size}.pyth",),
        licence=Licence(
            code="Apache-2.0",
            weights="not named",
            free=False,
            why="PyTorchVideo's code is under Apache-2.0; its model zoo names no terms for the "
            "files, which learned from videos of Kinetics-400.",
        ),
        trained_on="Kinetics-400: what people do in 240,000 clips of YouTube. No forgeries.",
        published="",
        read="pytorchvideo 0.1.5: models/hub/x3d.py (addresses, sizes, names), models/x3d.py.",
        differs="",
        untried="The published file could not be had when this was written.",
        convert=_converting(backbone),
    )


ADAPTERS = (
    _adapter("x3d_xs", "XS"), _adapter("x3d_s", "S"), _adapter("x3d_m", "M"),
    _adapter("x3d_l", "L"),
)  # fmt: skip
