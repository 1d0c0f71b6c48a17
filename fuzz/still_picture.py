"""A still picture, as it is asked about: decoded by Pillow, turned upright, brought to sRGB."""

from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from pillow_heif import register_heif_opener

from fuzz.folder import make, put
from unmask.video import still
from unmask.video.failures import DecodeError

register_heif_opener()  # writes HEIC
_PATH = make() / "still"
_SMALL = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(6, 8, 3))


def _saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    content = BytesIO()
    _SMALL.convert(mode).save(content, kind, **options)
    return content.getvalue()


_EXIF = Image.Exif()
_EXIF[0x0112] = 6
_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_MORE: dict[str, Any] = {"save_all": True, "append_images": [_SMALL.rotate(180)]}
SEEDS = [
    _saved("JPEG", exif=_EXIF, icc_profile=_PROFILE),
    _saved("JPEG", "CMYK"),
    _saved("MPO", **_MORE),
    _saved("PNG", exif=_EXIF, icc_profile=_PROFILE),
    _saved("PNG", "P"),
    _saved("PNG", "LA"),
    _saved("PNG", **_MORE),
    _saved("WEBP", exif=_EXIF),
    _saved("WEBP", **_MORE),
    _saved("AVIF", exif=_EXIF),
    _saved("PNG")[:-20],
    _saved("HEIF", exif=_EXIF, icc_profile=_PROFILE),
    _saved("HEIF", "LA"),
    b"\0\0\0\x18ftypheic",
]
TOKENS = [
    "IHDR", "IDAT", "eXIf", "iCCP", "acTL", "tRNS", "Exif", "VP8L", "ANIM", "ftyp", "ispe", "heic",
    "irot", "grid", "iref",
]  # fmt: skip


def read(data: bytes) -> None:
    """Read a picture, or refuse it in a line."""
    path = put(_PATH, data)
    still.is_still(path)
    with suppress(DecodeError):
        assert all(type(value) is str for value in still.read_tags(path).values())
    try:
        rgb_HWC, _ = still.read(path)
    except DecodeError as error:
        assert "\n" not in str(error), "words of several lines"
        return
    assert rgb_HWC.dtype == np.uint8
    assert rgb_HWC.ndim == 3
    assert rgb_HWC.shape[2] == 3
