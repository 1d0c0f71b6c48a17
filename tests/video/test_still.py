"""Still pictures of strangers: which pixels come out, and what is refused in a line."""

import os
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from pillow_heif import register_heif_opener

from unmask.video import still
from unmask.video.decode import probe, read_frames
from unmask.video.failures import DecodeError

register_heif_opener()  # writes HEIC; what reads it below is pi_heif

RED, BLUE = (200, 40, 30), (20, 60, 180)


def halves(size=(40, 24), top=RED, bottom=BLUE):
    """Paint a picture whose upper half is red and whose lower half is blue."""
    picture = Image.new("RGB", size, top)
    picture.paste(bottom, (0, size[1] // 2, size[0], size[1]))
    return picture


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def colours(path):
    """Return the picture's size, and the colours in the middle of its upper and lower half."""
    rgb_HWC, _ = still.read(path)
    height, width, _ = rgb_HWC.shape
    middle = width // 2
    return (width, height), rgb_HWC[height // 4, middle], rgb_HWC[3 * height // 4, middle]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("progressive.jpeg", {"quality": 95, "progressive": True, "subsampling": 0}),
        ("a.webp", {"lossless": True}),
        ("a.avif", {"quality": 95}),
        ("a.heic", {"quality": 95, "chroma": 444}),
        ("named_otherwise.txt", {"format": "PNG"}),
    ],
)
def test_each_kind_is_told_by_its_content_and_has_its_colours(tmp_path, name, options):
    path = saved(tmp_path / name, halves(), **options)
    assert still.is_still(path)
    size, top, bottom = colours(path)
    assert size == (40, 24)
    assert np.abs(top.astype(int) - RED).max() <= 6
    assert np.abs(bottom.astype(int) - BLUE).max() <= 6


def test_a_video_is_no_still_nor_is_what_can_not_be_read(tmp_path, make_video):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    names = ("pipe.jpg", "empty.jpg", "gone.jpg", ".")
    assert not any(still.is_still(tmp_path / name) for name in names)
    assert not still.is_still(make_video(tmp_path / "a.mp4", frames=2))


def test_exif_says_which_side_is_up(tmp_path):
    # 6: a quarter turn clockwise makes it upright (CIPA DC-008, section 4.6.4).
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("turned.jpg", "turned.png", "turned.webp"):
        path = saved(tmp_path / name, halves().rotate(90, expand=True), exif=exif, quality=95)
        size, top, bottom = colours(path)
        assert size == (40, 24), name
        assert top[0] > top[2], name
        assert bottom[2] > bottom[0], name


def test_exif_that_is_damaged_turns_nothing(tmp_path):
    path = saved(tmp_path / "a.jpg", halves(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert colours(path)[0] == (40, 24)


def test_16_bits_keep_their_high_byte_in_grey_and_in_colour(tmp_path):
    levels = np.full((8, 8), 0x8040, np.uint16)
    path = saved(tmp_path / "grey.png", Image.fromarray(levels))
    assert still.read(path)[0].tolist()[0][0] == [0x80] * 3
    import cv2

    cv2.imwrite(str(tmp_path / "rgb.png"), np.full((8, 8, 3), (0x10FF, 0x2000, 0xC0C0), np.uint16))
    assert still.read(tmp_path / "rgb.png")[0].tolist()[0][0] == [0xC0, 0x20, 0x10]


def test_what_is_transparent_is_seen_on_white_and_said(tmp_path):
    clear = halves().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 128))
    path = saved(tmp_path / "half.png", clear)
    rgb_HWC, found = still.read(path)
    wanted = [round(level * 128 / 255 + 127) for level in RED]
    assert np.abs(rgb_HWC[0, 0].astype(int) - wanted).max() <= 1
    assert "on white" in found.remarks[0]
    opaque = saved(tmp_path / "opaque.png", halves().convert("RGBA"))
    assert still.read(opaque)[1].remarks == ()
    assert still.read(opaque)[0][0, 0].tolist() == list(RED)


def test_palettes_and_two_levels_have_their_colours(tmp_path):
    path = saved(tmp_path / "palette.png", halves().quantize(4))
    assert np.abs(colours(path)[1].astype(int) - RED).max() <= 2
    black = saved(tmp_path / "black.png", Image.new("1", (8, 8), 0))
    assert still.read(black)[0].max() == 0


def test_inks_without_a_profile_are_a_doubt(tmp_path):
    path = saved(tmp_path / "print.jpg", halves().convert("CMYK"), quality=95)
    rgb_HWC, found = still.read(path)
    assert np.abs(rgb_HWC[0, 0].astype(int) - RED).max() <= 8
    assert "CMYK" in found.colour_doubt


def test_a_profile_is_followed_and_a_damaged_one_is_a_doubt(tmp_path):
    # In this space a grey of 128 is darker than in sRGB: L* = 53.6 is 128, and L* = 50 is 118.9.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain = saved(tmp_path / "srgb.png", halves(), icc_profile=srgb.tobytes())
    assert still.read(plain)[0][0, 0].tolist() == list(RED)
    for name, profile in (("lab.png", lab.tobytes()), ("damaged.png", b"no profile")):
        path = saved(tmp_path / name, halves(), icc_profile=profile)
        rgb_HWC, found = still.read(path)
        assert rgb_HWC[0, 0].tolist() == list(RED)
        assert "colour profile" in found.colour_doubt


def test_the_first_of_an_animation_is_taken_and_the_others_are_counted(tmp_path):
    rest = [halves(top=BLUE)] * 2
    for name in ("a.png", "a.webp"):
        options = {"save_all": True, "append_images": rest, "lossless": True}
        path = saved(tmp_path / name, halves(), **options)
        rgb_HWC, found = still.read(path)
        assert rgb_HWC[0, 0].tolist() == list(RED)
        assert found.others in (1, 2)  # two that are the same may be written as one


def test_a_telephone_s_second_picture_is_no_animation(tmp_path):
    path = saved(tmp_path / "a.jpg", halves(), format="MPO", save_all=True,
                 append_images=[halves(top=BLUE)])  # fmt: skip
    assert still.is_still(path)
    assert still.read(path)[1] == still.Still("JPEG")


def test_the_video_of_one_frame_has_the_same_pixels_and_time(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (33, 47, 3), np.uint8)
    path = saved(tmp_path / "noise.png", Image.fromarray(noise))
    found = still.write_video(path, tmp_path / "out.mov", shown_s=2.2)
    assert found == still.Still("PNG")
    [frame] = read_frames(tmp_path / "out.mov", rate_fps=10.0)
    assert (frame.rgb_HWC() == noise).all()
    assert (frame.time_s, frame.duration_s) == (0.0, 3.0)
    info = probe(tmp_path / "out.mov")
    assert (info.width, info.height) == (47, 33)


def test_a_picture_larger_than_a_video_s_frame_is_reduced_and_said(tmp_path):
    path = saved(tmp_path / "large.png", Image.new("L", (8000, 5000), 90))
    rgb_HWC, found = still.read(path)
    height, width, _ = rgb_HWC.shape
    assert 0.95 * 8192 * 4352 < width * height <= 8192 * 4352
    assert abs(width / height - 1.6) < 0.001
    assert rgb_HWC[7, 7].tolist() == [90] * 3
    assert f"was reduced to {width} x {height}" in found.remarks[0]
    still.write_video(path, tmp_path / "out.mov", shown_s=1.0)
    [frame] = read_frames(tmp_path / "out.mov")
    assert (frame.width, frame.height) == (width, height)


@pytest.mark.parametrize("size", [(60_001, 600), (5969, 5970), (1, 65_000), (8192, 4352)])
def test_every_size_that_is_taken_can_be_read_back(tmp_path, size):
    path = saved(tmp_path / "odd.png", Image.new("L", size, 90))
    still.write_video(path, tmp_path / "out.mov", shown_s=1.0)
    [frame] = read_frames(tmp_path / "out.mov")
    assert frame.width <= size[0]
    assert frame.reduced_rgb_HWC(64).shape[2] == 3


def test_tags_tell_of_camera_and_generator_and_of_no_person(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0131], exif[0x013B] = "Camera works", "Editor 3", "Ann Artist"
    xmp = (b'<x Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/'
           b'trainedAlgorithmicMedia"/>')  # fmt: skip
    path = saved(tmp_path / "a.jpg", halves(), exif=exif, xmp=xmp, comment=b"by hand")
    assert still.read_tags(path) == {
        "make": "Camera works", "software": "Editor 3", "comment": "by hand",
        "digital_source_type": "trainedAlgorithmicMedia",
    }  # fmt: skip
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a face, photo, Steps: 20, Sampler: Euler")
    text.add_text("Author", "Ann Artist")
    path = saved(tmp_path / "a.png", halves(), pnginfo=text)
    assert still.read_tags(path) == {"parameters": "a face, photo, Steps: 20, Sampler: Euler"}
    assert still.read_tags(saved(tmp_path / "bare.webp", halves())) == {}
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DecodeError, match="damaged"):
        still.read_tags(tmp_path / "cut.png")


def cut(content):
    return content[: len(content) * 2 // 3]


def claims(content, width, height):
    """Return a PNG whose header has another size, with the checksum that belongs to it."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


def content_of(picture, kind, **options):
    stream = BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 90, 3), np.uint8))
HOSTILE = {
    "cut.jpg": (cut(content_of(NOISE, "JPEG")), "damaged"),
    "cut.png": (cut(content_of(NOISE, "PNG")), "damaged"),
    "cut.webp": (cut(content_of(NOISE, "WEBP")), "damaged"),
    "bomb.png": (claims(content_of(NOISE, "PNG"), 60_000, 60_000), "60000 x 60000 pixels"),
    "begins.jpg": (b"\xff\xd8\xff" + b"\0" * 99, "none of a kind that is decoded here"),
    "begins.heic": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99,
        "none of a kind",
    ),
    "cut.heic": (cut(content_of(NOISE, "HEIF")), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_can_not_be_decoded_is_one_line(tmp_path, name):
    content, words = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert still.is_still(path)
    with pytest.raises(DecodeError, match=words) as raised:
        still.read(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_without_pillow_the_line_says_what_to_install(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", halves())
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert still.is_still(path)
    for ask in (still.read, still.read_tags):
        with pytest.raises(DecodeError, match=r"pip install 'unmask\[stills\]'"):
            ask(path)


def test_without_what_reads_heic_other_kinds_are_read(tmp_path, monkeypatch):
    heic = saved(tmp_path / "a.heic", halves())
    png = saved(tmp_path / "a.png", halves())
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(DecodeError, match=r"HEIC picture.*pip install 'unmask\[stills\]'"):
        still.read(heic)
    assert still.read(png)[1].kind == "PNG"


def test_a_telephones_heic_is_upright_in_srgb_and_one_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is the top
    exif[0x010F] = "a telephone"
    lying = halves().transpose(Image.Transpose.ROTATE_90)
    lying.info["exif"] = exif.tobytes()  # written as EXIF and, as telephones do, as "irot"
    path = saved(tmp_path / "a.heic", lying, quality=95, chroma=444)
    assert b"irot" in path.read_bytes()
    size, top, bottom = colours(path)
    assert size == (40, 24)
    assert np.abs(top.astype(int) - RED).max() <= 6
    assert np.abs(bottom.astype(int) - BLUE).max() <= 6
    _, found = still.read(path)
    assert (found.kind, found.others, found.remarks) == ("HEIC", 0, ())
    assert still.read_tags(path)["make"] == "a telephone"


def test_a_png_holds_its_texts_and_its_pixels(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    still.write_png(tmp_path / "a.png", pixels, {"Comment": "who made it"})
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Comment"] == "who made it"
        assert (np.asarray(image) == pixels).all()
