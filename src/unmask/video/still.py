"""A stranger's still picture as a video of one frame, so that it is cropped as videos are.

Pillow decodes it, of HEIC with libheif: call this in a confined process.
"""

import math
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.errors import MALFORMED
from unmask.runtime.disk import read_regular, write_atomically
from unmask.video import pictures
from unmask.video.failures import DecodeError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif"})
_FORMATS = ["JPEG", "PNG", "WEBP", "AVIF"]  # and MPO, which begins as a JPEG does
_HEIC = {b"heic", b"heix", b"heim", b"heis"}
_HEIF_BRANDS = {*_HEIC, b"mif1"}  # what AVIF may begin with, too
_BRANDS = {*_HEIF_BRANDS, b"avif"}  # with "avis" and "hevc" begin sequences, which are videos
_MOST_BYTES = 2**28
_MOST_PIXELS = 100_000_000  # what telephones take has up to 200 million; decoded, three bytes each
_MOST_IN_VIDEO = 8192 * 4352  # as video/streams takes them, which FFmpeg counts in whole blocks
_BLOCK_PX = 64
_RGB_HIGH_BYTE = 8
# By the number of EXIF's tag. Those that name a person or a place are left out.
_EXIF = {0x010F: "make", 0x0110: "model", 0x0131: "software", 0x0132: "creation_time",
         0x010E: "description"}  # fmt: skip
# The last four are what generators of pictures write.
_TEXTS = ("software", "comment", "description", "source", "creation time", "parameters", "prompt",
          "workflow", "dream")  # fmt: skip
# What Pillow's readers raise of damaged files besides OSError: found by fuzz/still_picture.py.
_BROKEN = (*MALFORMED, SyntaxError, EOFError, RuntimeError, struct.error, zlib.error)


@dataclass(frozen=True)
class Still:
    """What was found of a picture; its pixels are in the video."""

    kind: str  # JPEG, PNG, WEBP, AVIF, HEIC
    remarks: tuple[str, ...] = ()  # what was done to its pixels, a sentence each
    colour_doubt: str = ""  # what of its colours is not understood, in a sentence
    others: int = 0  # pictures of an animation behind the first one


def is_still(path: Path) -> bool:
    """Say whether a file begins like a still picture, whatever its name."""
    try:
        if not path.is_file():  # nobody may ever write into a pipe
            return False
        with path.open("rb") as file:
            start = file.read(12)
    except (OSError, ValueError):  # the reader of videos says why
        return False
    return (
        start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
        or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:] in _BRANDS)
    )


def write_video(path: Path, out: Path, *, shown_s: float) -> Still:
    """Write a picture to out as a MOV of one frame that is shown for so long, and say what it is.

    Its pixels come out the same: upright as EXIF says, in 8 bits of sRGB, what is transparent on
    white. A picture of more pixels than a video's frame may have is reduced to so many.

    Raises:
        DecodeError: it is damaged, too large, or of a kind that is not decoded here.
        DiskError: the disk takes no more.
    """
    rgb_HWC, found = read(path)
    is_coded, coded = cv2.imencode(".png", rgb_HWC[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert is_coded
    height, width, _ = rgb_HWC.shape
    plan = pictures.Plan("", pictures.Picture("png", width, height), (0,), {})
    # The last picture is shown for a tick.
    pictures.write_video(out, plan, lambda _: coded.tobytes(), [0], 1 / math.ceil(shown_s))
    return found


def read_tags(path: Path) -> dict[str, str]:
    """Return what programs wrote into a picture about themselves, by names in small letters.

    Text of PNG, EXIF's tags of camera and software, and the digital source type in XMP (IPTC).
    Anybody can write, change or delete them.

    Raises:
        DecodeError: it is damaged, or of a kind that is not decoded here.
    """
    _need_pillow(path)
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(
                BytesIO(content := read_regular(path, _MOST_BYTES)), formats=_formats(path, content)
            ) as image,
        ):
            texts = {str(name).lower(): value for name, value in image.info.items()}
            exif = image.getexif()
            xmp = texts.get("xmp") or texts.get("xml:com.adobe.xmp") or b""
    except (*_BROKEN, OSError) as error:
        raise _refuse(path, f"one that is damaged ({error!s:.80})", "Leave it out") from error
    found = {name: exif[number] for number, name in _EXIF.items() if number in exif}
    found |= {name: texts[name] for name in _TEXTS if name in texts}
    kind = re.search(
        rb"digitalsourcetype/(\w{1,60})", xmp.encode() if isinstance(xmp, str) else xmp
    )
    if kind:
        found["digital_source_type"] = kind[1]
    said = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in found.items()
    }
    return {name: value.strip("\0 \n") for name, value in said.items() if value.strip("\0 \n")}


def write_png(out: Path, rgb_HWC: Pixels, texts: Mapping[str, str]) -> None:
    """Write a picture as PNG, with texts by their keywords (PNG, W3C 2003, section 11.3.4).

    Raises:
        DiskError: the disk takes no more.
    """
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    content = BytesIO()
    Image.fromarray(rgb_HWC).save(content, "PNG", pnginfo=info)
    write_atomically(out, content.getvalue())


def _need_pillow(path: Path) -> None:
    if find_spec("PIL") is None:
        _need_extra(path, "one, and that Pillow, which decodes them, is not installed")


def _need_extra(path: Path, found: str) -> NoReturn:
    raise _refuse(path, found, "Run `pip install 'unmask[stills]'`")


def _formats(path: Path, content: bytes) -> list[str]:
    """Return what a picture may be by its first bytes, once what decodes that is there."""
    brand = content[8:12]
    if content[4:8] != b"ftyp" or brand not in _HEIF_BRANDS:
        return _FORMATS
    if find_spec("pi_heif") is None:
        if brand in _HEIC:
            _need_extra(path, "a HEIC picture, and that what decodes it is not installed")
        return _FORMATS
    import pi_heif

    # One thread, as each of the workers has one; and nothing but the picture itself.
    pi_heif.register_heif_opener(
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
    )
    return [*_FORMATS, "HEIF"]


def _refuse(path: Path, found: str, do: str) -> DecodeError:
    return DecodeError(f"{path}: asked for a still picture, found {found}. {do}.")


def read(path: Path) -> tuple[Pixels, Still]:
    """Return a picture as write_video puts it into a video, and what it is.

    Raises:
        DecodeError: as write_video.
    """
    _need_pillow(path)
    from PIL import Image, UnidentifiedImageError  # 50 ms, which videos need not wait for

    # Said below, and as an error.
    Image.MAX_IMAGE_PIXELS = None
    damaged = "Ask for the file as it was taken, or leave it out"
    try:
        content = read_regular(path, _MOST_BYTES)
        formats = _formats(path, content)
        # Warnings are of EXIF that is damaged.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(BytesIO(content), formats=formats) as image,
        ):
            width, height = image.size
            if width * height > _MOST_PIXELS:
                do = f"Reduce it to {_MOST_PIXELS / 1e6:.0f} million at most"
                raise _refuse(path, f"one of {width} x {height} pixels", do)
            # An MPO's others are of the same moment: a depth map, another eye, more light.
            is_mpo = image.format == "MPO"
            others = 0 if is_mpo else getattr(image, "n_frames", 1) - 1
            image.load()
            rgb, remarks, doubt = _in_srgb(_upright(image))
            rgb_HWC = np.asarray(rgb)
            kind = {"MPO": "JPEG", "HEIF": "HEIC"}.get(str(image.format), str(image.format))
    except OSError as error:
        if error.errno is not None:
            raise _refuse(path, f"none that can be read ({error.strerror})", damaged) from error
        if isinstance(error, UnidentifiedImageError):
            raise _refuse(path, "none of a kind that is decoded here", damaged) from error
        raise _refuse(path, f"one that is damaged ({error!s:.80})", damaged) from error
    except _BROKEN as error:
        raise _refuse(path, f"one that is damaged ({error!s:.80})", damaged) from error
    height, width, _ = rgb_HWC.shape
    size = _fitting(width, height)
    if size != (width, height):
        rgb_HWC = cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA)
        remarks.append(f"It has {width} x {height} pixels and was reduced to {size[0]} x {size[1]}")
    sentences = tuple(f"{path}: {remark}." for remark in remarks)
    return rgb_HWC, Still(kind, sentences, f"{path}: {doubt}." if doubt else "", others)


def _fitting(width: int, height: int) -> tuple[int, int]:
    """Return the size of a picture in a video: its own, or the largest that a frame may have."""

    def in_blocks(size: tuple[int, int]) -> int:
        columns, rows = (-(-side // _BLOCK_PX) * _BLOCK_PX for side in size)
        return columns * rows

    size, scale = (width, height), 1.0
    while in_blocks(size) > _MOST_IN_VIDEO:
        scale *= 0.995
        size = max(1, round(width * scale)), max(1, round(height * scale))
    return size


def _upright(image: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except (*_BROKEN, OSError):  # EXIF that is damaged: as it is stored
        return image


def _in_srgb(image: "Image.Image") -> tuple["Image.Image", list[str], str]:
    """Return the picture in RGB as a screen shows it, what was done to it, and a doubt."""
    from PIL import Image

    remarks, doubt, profile = list[str](), "", image.info.get("icc_profile")
    if image.mode.startswith("I"):  # grey of 16 bits: Pillow would cut off what is above 255
        levels_HW = np.asarray(image).astype(np.int64) >> _RGB_HIGH_BYTE
        image = Image.fromarray(np.clip(levels_HW, 0, 255).astype(np.uint8))
        profile = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            remarks.append("Some of it is transparent, and was seen on white")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGB")
    if profile:
        shown = _by_profile(image, profile)
        if shown is None:
            doubt = "its colour profile can't be used, so that its colours may be others"
        else:
            image = shown
    elif image.mode == "CMYK":
        doubt = (
            "it has the inks of a print (CMYK) without a profile, so that its colours are guessed"
        )
    return image.convert("RGB"), remarks, doubt


def _by_profile(image: "Image.Image", profile: bytes) -> "Image.Image | None":
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        if ImageCms.getProfileDescription(own).startswith("sRGB"):
            return image  # its rounding would change pixels that are right
        wanted = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, own, wanted, outputMode="RGB")
    except (ImageCms.PyCMSError, *_BROKEN, OSError):
        return None
