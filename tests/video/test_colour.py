"""Flat patches whose colours are worked out here from the standards' formulas, one by one."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unmask.data import fingerprints
from unmask.forgeries import degrade
from unmask.video import colour, decode
from unmask.video import encode as encoding
from unmask.video import frame as frames
from unmask.video.colour import Extras, Form, Matrix, Signal
from unmask.video.light import Primaries, Transfer

Rgb = tuple[float, float, float]

PATCH_PX = 32
# R'G'B' as signalled: greys, skin, and colours that BT.709 has in any primaries here but the last.
PATCHES: tuple[Rgb, ...] = (
    (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.62, 0.48, 0.42), (0.45, 0.34, 0.30),
    (0.3, 0.4, 0.5), (0.8, 0.7, 0.6), (0.35, 0.6, 0.3),
)  # fmt: skip
KR_KB = {
    Matrix.BT709: (0.2126, 0.0722), Matrix.BT2020: (0.2627, 0.0593),
    Matrix.BT601_525: (0.299, 0.114), Matrix.BT601_625: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
}  # fmt: skip
HLG = Signal(Primaries.BT2020, Transfer.HLG, Matrix.BT2020, 1)
PQ = Signal(Primaries.BT2020, Transfer.PQ, Matrix.BT2020, 1)
BT709 = Signal(Primaries.BT709, Transfer.BT709, Matrix.BT709, 1)
SILENT = Signal()
FROM_BT2020 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))


# ---------------------------------------------------------------- what the standards say


def encode(rgb: Rgb, matrix: int, *, bits: int, is_full: bool) -> tuple[int, int, int]:
    """Return Y, Cb and Cr: H.273, section 8.3."""
    red, green, blue = rgb
    kr, kb = KR_KB[Matrix(matrix)]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    unit = 2 ** (bits - 8)
    if is_full:
        top = 2**bits - 1
        return round(top * y), round(top * cb + 128 * unit), round(top * cr + 128 * unit)
    luma, blue_part, red_part = 219 * y + 16, 224 * cb + 128, 224 * cr + 128
    return round(unit * luma), round(unit * blue_part), round(unit * red_part)


def pq_nits(signal: float) -> float:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    return 10_000 * (max(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def pq_signal(nits: float) -> float:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (nits / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_scene(signal: float) -> float:
    if signal <= 0.5:
        return signal**2 / 3
    return (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12


def bt2390(nits: float, peak_nits: float) -> float:
    """Return the light on a screen of 203 cd/m²: BT.2390, section 5.4.1."""
    white, e1 = pq_signal(203) / pq_signal(peak_nits), pq_signal(nits) / pq_signal(peak_nits)
    knee = 1.5 * white - 0.5
    if e1 < knee:
        return nits
    t = (min(e1, 1) - knee) / (1 - knee)
    e2 = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    return pq_nits((e2 + (-2 * t**3 + 3 * t**2) * white) * pq_signal(peak_nits))


def expect_hdr(rgb: Rgb, transfer: int, peak_nits: float = 1000) -> list[float]:
    """Return what a screen of BT.709 shows for R'G'B' in BT.2020, from 0 to 255."""
    if transfer == Transfer.HLG:
        scene = [hlg_scene(value) for value in rgb]
        luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
        nits = [1000 * luminance**0.2 * value for value in scene]
    else:
        nits = [pq_nits(value) for value in rgb]
    seen = [
        max(0.0, sum(w * n for w, n in zip(row, nits, strict=True))) for row in FROM_BT2020
    ]  # fmt: skip
    highest = max(seen)
    gain = bt2390(highest, peak_nits) / highest if highest else 1.0
    return [255 * min(1, gain * value / 203) ** (1 / 2.4) for value in seen]


def expect_sdr(rgb: Rgb) -> list[float]:
    return [255 * value for value in rgb]


# ---------------------------------------------------------------- clips


def paint(
    pix_fmt: str, matrix: int, *, is_full: bool = False, patches: Sequence[Rgb] = PATCHES,
    size: tuple[int, int] | None = None,
) -> av.VideoFrame:  # fmt: skip
    """Return a picture of patches side by side, written into its planes."""
    width, height = size or (PATCH_PX * len(patches), 64)
    picture = av.VideoFrame(width, height, pix_fmt)
    bits = picture.format.components[0].bits
    kind = np.uint8 if bits == 8 else np.uint16
    if picture.format.is_rgb:
        numbers = [[round(v * (2**bits - 1)) for v in (g, b, r)] for r, g, b in patches]
    else:
        numbers = [list(encode(rgb, matrix, bits=bits, is_full=is_full)) for rgb in patches]
    for index, plane in enumerate(picture.planes):
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        patch = np.arange(plane.width) * len(patches) // plane.width
        rows[:, : plane.width] = np.array([row[index] for row in numbers], kind)[patch]
    return picture


def write(
    path: Path, picture: av.VideoFrame, signal: Signal, *, codec: str = "ffv1", frames: int = 2,
    options: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write a picture that signals what is asked for, by a codec without loss unless it has one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25, options=options or {})
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = picture.format.name
        stream.thread_count = 1
        context = stream.codec_context
        for target in (context, picture):
            target.color_primaries, target.color_trc = signal.primaries, signal.transfer
            target.colorspace, target.color_range = signal.matrix, signal.range
        for index in range(frames):
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


X264 = {"qp": "0", "preset": "ultrafast"}
X265 = {"x265-params": "lossless=1:log-level=none:bframes=0:pools=none:frame-threads=1"}
P3_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
WITHOUT_SIGNAL = ":colorprim=unknown:transfer=unknown:colormatrix=unknown"


def read(path: Path) -> list[frames.Frame]:
    return list(decode.read_frames(path))


def patches_of(picture_HWC: NDArray[np.uint8], count: int = len(PATCHES)) -> list[list[int]]:
    """Return the colour in the middle of each patch."""
    height, width, _ = picture_HWC.shape
    columns = [(2 * patch + 1) * width // (2 * count) for patch in range(count)]
    return [[int(v) for v in picture_HWC[height // 2, column]] for column in columns]


def assert_patches(frame: frames.Frame, expected: Sequence[Sequence[float]], within: float) -> None:
    found = np.array(patches_of(frame.rgb_HWC(), len(expected)), float)
    assert found == pytest.approx(np.array(expected), abs=within)


# ---------------------------------------------------------------- SDR


@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "range_", "codec"),
    [
        ("yuv420p", Matrix.BT601_525, 1, "ffv1"), ("yuv420p", Matrix.BT709, 1, "ffv1"),
        ("yuv420p", Matrix.BT709, 2, "ffv1"), ("yuvj420p", Matrix.BT601_625, 2, "libx264"),
        ("yuv444p", Matrix.BT709, 1, "ffv1"), ("yuv422p", Matrix.BT601_525, 2, "ffv1"),
        ("yuv420p10le", Matrix.BT709, 1, "ffv1"), ("yuv420p10le", Matrix.BT709, 2, "ffv1"),
        ("yuv422p10le", Matrix.BT601_525, 1, "ffv1"), ("yuv444p10le", Matrix.BT709, 1, "ffv1"),
        ("yuv420p12le", Matrix.BT709, 1, "ffv1"), ("yuv444p", Matrix.SMPTE240M, 1, "ffv1"),
        ("gbrp", Matrix.RGB, 2, "utvideo"), ("gbrp10le", Matrix.RGB, 2, "ffv1"),
    ],
)  # fmt: skip
def test_sdr_has_the_matrix_and_the_range_that_it_signals(
    pix_fmt: str, matrix: int, range_: int, codec: str, tmp_path: Path
) -> None:
    signal = Signal(Primaries.BT709, Transfer.BT709, matrix, range_)
    picture = paint(pix_fmt, matrix, is_full=range_ == 2)
    options = X264 if codec == "libx264" else {}
    name = "a.avi" if codec == "utvideo" else "a.mkv"
    path = write(tmp_path / name, picture, signal, codec=codec, options=options)
    for frame in read(path):
        assert frame._picture.format.name == pix_fmt
        assert_patches(frame, [expect_sdr(rgb) for rgb in PATCHES], within=3.5)
        assert frame.colour_doubt == ""


@pytest.mark.parametrize("range_", [1, 2])
@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
def test_grey_has_its_range(pix_fmt: str, range_: int, tmp_path: Path) -> None:
    greys = [(level, level, level) for level in (0.0, 0.25, 0.5, 1.0)]
    picture = paint(pix_fmt, Matrix.BT709, is_full=range_ == 2, patches=greys)
    path = write(tmp_path / "a.mkv", picture, BT709._replace(range=range_))
    frame = read(path)[0]
    assert_patches(frame, [expect_sdr(rgb) for rgb in greys], within=3.5)
    assert frame.thumbnail_HW()[9, [2, 29]].astype(float) == pytest.approx([0, 255], abs=3)


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 480), Matrix.BT601_525), ((720, 576), Matrix.BT601_625),
        ((360, 640), Matrix.BT601_525), ((1280, 720), Matrix.BT709), ((720, 1280), Matrix.BT709),
        ((1280, 544), Matrix.BT709), ((1920, 1080), Matrix.BT709), ((1080, 1920), Matrix.BT709),
    ],
)  # fmt: skip
def test_unsignalled_video_is_bt709_in_hd_and_bt601_below(
    size: tuple[int, int], matrix: int, tmp_path: Path
) -> None:
    picture = paint("yuv420p", matrix, size=size)
    path = write(tmp_path / "a.mp4", picture, SILENT, codec="libx264", frames=1, options=X264)
    (frame,) = read(path)
    assert_patches(frame, [expect_sdr(rgb) for rgb in PATCHES], within=2.5)
    assert frame.colour_doubt == ""
    left, top, right, bottom = 8, 16, size[0] - 30, size[1] - 100
    part = frame.crop_rgb_HWC((left, top, right, bottom))
    assert np.array_equal(part, frame.rgb_HWC()[top:bottom, left:right])


@pytest.mark.parametrize(
    ("primaries", "to_bt709"),
    [
        (Primaries.BT2020, FROM_BT2020),
        (
            Primaries.DISPLAY_P3,
            ((1.2249, -0.2249, 0), (-0.0421, 1.0421, 0), (-0.0196, -0.0786, 1.0983)),
        ),
    ],
)  # fmt: skip
def test_a_wide_gamut_is_brought_to_bt709(
    primaries: int, to_bt709: Sequence[Sequence[float]], tmp_path: Path
) -> None:
    matrix = Matrix.BT2020 if primaries == Primaries.BT2020 else Matrix.BT709
    signal = Signal(primaries, Transfer.BT709, matrix, 1)
    path = write(tmp_path / "a.mkv", paint("yuv420p10le", matrix), signal)
    expected = []
    for rgb in PATCHES:
        seen = [sum(w * v**2.4 for w, v in zip(row, rgb, strict=True)) for row in to_bt709]
        expected.append([255 * min(1, max(0, value)) ** (1 / 2.4) for value in seen])
    frame = read(path)[0]
    assert_patches(frame, expected, within=2)
    assert frame.colour_doubt == ""


# ---------------------------------------------------------------- HDR


@pytest.mark.parametrize(
    ("pix_fmt", "range_"),
    [
        ("yuv420p10le", 1), ("yuv420p10le", 2), ("yuv420p", 1), ("yuv422p10le", 1),
        ("yuv444p12le", 1), ("gbrp10le", 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("signal", [HLG, PQ], ids=["HLG", "PQ"])
def test_hdr_is_tone_mapped(signal: Signal, pix_fmt: str, range_: int, tmp_path: Path) -> None:
    picture = paint(pix_fmt, Matrix.BT2020, is_full=range_ == 2)
    signal = signal._replace(range=range_, matrix=0 if picture.format.is_rgb else 9)
    frame = read(write(tmp_path / "a.mkv", picture, signal))[0]
    expected = [expect_hdr(rgb, signal.transfer) for rgb in PATCHES]
    # A level of 8 bits is worth four of its neighbours' in PQ's darks.
    assert_patches(frame, expected, within=2 if pix_fmt != "yuv420p" else 6)
    cut = frame.reduced_crop_rgb_HWC((3 * PATCH_PX + 4, 8, 4 * PATCH_PX - 4, 56), 8)
    assert np.abs(cut - frame.rgb_HWC()[32, 3 * PATCH_PX + 16].astype(float)).max() <= 1
    assert frame.colour_doubt == ""
    small = patches_of(frame.reduced_rgb_HWC(128))
    assert np.array(small, float) == pytest.approx(np.array(expected), abs=7)


def test_reference_white_and_skin_in_hlg_come_out_as_in_sdr(tmp_path: Path) -> None:
    """By BT.2408, SDR's light times 203 cd/m² is its HLG; darker than the knee it comes back."""
    skin = (0.60, 0.47, 0.40)  # in BT.709, by BT.1886 at most 0.6 ** 2.4 * 203 = 60 cd/m²
    to_bt2020 = np.linalg.inv(np.array(FROM_BT2020))
    nits = to_bt2020 @ (203 * np.array(skin) ** 2.4)
    luminance = nits @ np.array([0.2627, 0.6780, 0.0593]) / 1000
    scene = nits / 1000 * luminance ** (0.2 / -1.2)
    hlg = [
        math.sqrt(3 * e) if e <= 1 / 12 else 0.17883277 * math.log(12 * e - 0.28466892) + 0.55991073
        for e in scene
    ]
    patches = [(hlg[0], hlg[1], hlg[2]), (0.75, 0.75, 0.75)]
    path = write(tmp_path / "a.mkv", paint("yuv420p10le", Matrix.BT2020, patches=patches), HLG)
    found = patches_of(read(path)[0].rgb_HWC(), 2)
    assert found[0] == pytest.approx([255 * value for value in skin], abs=1.5)
    # White gives way to what is brighter: 203 cd/m² become 160, 255 * (160 / 203) ** (1 / 2.4).
    assert found[1] == pytest.approx([231, 231, 231], abs=2)


@pytest.mark.parametrize(
    ("metadata", "peak_nits"),
    [
        (f":master-display={P3_DISPLAY}L(6000000,50)", 600),
        (":max-cll=4000,400", 4000), (":max-cll=150,80", 203),
        (f":max-cll=0,0:master-display={P3_DISPLAY}L(40000000,50)", 4000),
    ],
    ids=["mastering display", "MaxCLL", "no brighter than white", "MaxCLL unknown"],
)  # fmt: skip
def test_pq_s_peak_is_the_metadata_s(metadata: str, peak_nits: float, tmp_path: Path) -> None:
    greys = [(level, level, level) for level in (0.2, 0.4, 0.5, 0.55, 0.58)]
    picture = paint("yuv420p10le", Matrix.BT2020, patches=greys)
    options = {"x265-params": X265["x265-params"] + metadata}
    path = write(tmp_path / "a.mp4", picture, PQ, codec="libx265", options=options)
    expected = [
        [255 * (bt2390(pq_nits(level), peak_nits) / 203) ** (1 / 2.4)] * 3 for level, _, _ in greys
    ]
    assert_patches(read(path)[0], expected, within=1.5)


# ---------------------------------------------------------------- who signals


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_what_only_the_container_signals_counts(name: str, tmp_path: Path) -> None:
    options = {"x265-params": X265["x265-params"] + WITHOUT_SIGNAL}
    picture = paint("yuv420p10le", Matrix.BT2020)
    path = write(tmp_path / name, picture, PQ, codec="libx265", options=options)
    with av.open(str(path)) as container:
        assert {p.color_trc for p in container.decode(video=0)} == {Transfer.UNSPECIFIED}
    for frame in read(path):
        assert_patches(frame, [expect_hdr(rgb, Transfer.PQ) for rgb in PATCHES], within=2)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_only_the_pictures_signal_counts(codec: str, tmp_path: Path) -> None:
    options = X264 if codec == "libx264" else X265
    path = write(
        tmp_path / "a.mp4", paint("yuv420p10le", Matrix.BT2020), PQ, codec=codec, options=options
    )
    content = path.read_bytes()
    assert content.count(b"colrnclx") == 1
    head, tail = content.split(b"colrnclx")
    path.write_bytes(head + b"colrnclx" + bytes([0, 2, 0, 2, 0, 2]) + tail[6:])
    for frame in read(path):
        assert_patches(frame, [expect_hdr(rgb, Transfer.PQ) for rgb in PATCHES], within=2)


def test_a_change_midway_is_followed(tmp_path: Path) -> None:
    parts = [
        write(
            tmp_path / f"{n}.h264",
            paint("yuv420p", signal.matrix),
            signal,
            codec="libx264",
            options=X264,
        )
        for n, signal in enumerate((BT709, HLG, BT709))
    ]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sdr = [expect_sdr(rgb) for rgb in PATCHES]
    hdr = [expect_hdr(rgb, Transfer.HLG) for rgb in PATCHES]
    frames = read(path)
    assert len(frames) == 6
    for frame, expected in zip(frames, (sdr, sdr, hdr, hdr, sdr, sdr), strict=True):
        assert_patches(frame, expected, within=4)


def test_a_stream_without_a_container_s_signal_lends_nothing_to_silent_pictures(
    tmp_path: Path,
) -> None:
    options = {"x265-params": X265["x265-params"] + WITHOUT_SIGNAL}
    first = write(tmp_path / "1.hevc", paint("yuv420p10le", 9), PQ, codec="libx265", options=X265)
    then = write(
        tmp_path / "2.hevc", paint("yuv420p10le", 6), SILENT, codec="libx265", options=options
    )
    path = tmp_path / "a.hevc"
    path.write_bytes(first.read_bytes() + then.read_bytes())
    frames = read(path)
    assert len(frames) == 4
    assert_patches(frames[0], [expect_hdr(rgb, Transfer.PQ) for rgb in PATCHES], within=2)
    assert_patches(frames[-1], [expect_sdr(rgb) for rgb in PATCHES], within=3.5)


# ---------------------------------------------------------------- what is not understood


@pytest.mark.parametrize(
    ("signal", "pix_fmt", "said"),
    [
        (PQ._replace(matrix=Matrix.ICTCP), "yuv420p10le", "matrix is ICtCp"),
        (BT709._replace(matrix=Matrix.YCGCO), "yuv444p", "matrix is YCgCo"),
        (HLG._replace(matrix=Matrix.BT2020_CONSTANT), "yuv420p10le", "constant luminance"),
        (BT709._replace(transfer=Transfer.LOG_100), "yuv420p", "transfer is logarithmic"),
        (SILENT._replace(primaries=Primaries.BT2020), "yuv420p10le", "may be HDR or SDR"),
        (SILENT._replace(matrix=Matrix.BT2020), "yuv420p10le", "may be HDR or SDR"),
    ],
)
def test_what_cannot_be_converted_is_shown_and_doubted(
    signal: Signal, pix_fmt: str, said: str, tmp_path: Path
) -> None:
    picture = paint(pix_fmt, Matrix.BT2020 if signal.primaries == 9 else Matrix.BT709)
    for frame in read(write(tmp_path / "a.mkv", picture, signal)):
        assert said in frame.colour_doubt
        assert frame.colour_doubt.endswith(".")
        # Greys need no matrix: they are shown for what they are.
        grey = patches_of(frame.rgb_HWC())[:2]
        assert np.array(grey) == pytest.approx(np.array([[0] * 3, [255] * 3]), abs=2)


def test_hdr_s_metadata_without_its_transfer_raises_a_doubt(tmp_path: Path) -> None:
    options = {"x265-params": X265["x265-params"] + ":max-cll=1000,400"}
    for signal, is_doubted in ((SILENT, True), (BT709, False), (HLG, False)):
        path = write(
            tmp_path / "a.mp4", paint("yuv420p10le", 9), signal, codec="libx265", options=options
        )
        doubts = {frame.colour_doubt for frame in read(path)}
        assert len(doubts) == 1
        assert ("metadata of HDR" in doubts.pop()) == is_doubted


def ue(value: int) -> str:
    """Return an unsigned number in Exp-Golomb's code, H.264's section 9.1."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def dolby_vision(profile: int, *, is_full_range: bool) -> bytes:
    """Return Dolby Vision's metadata of one picture, as a NAL unit of HEVC: ETSI TS 103 572."""
    unity = ue(0) + "0" * 23, ue(1) + "0" * 23  # a polynomial that changes nothing, 0 + 1 * x
    bits = [
        f"{2:06b}{18:011b}{profile:04b}{0:04b}", "1", "0", "00", ue(23), "01",
        "1" if is_full_range else "0", ue(2), ue(2), ue(4), "0", "000", "0", "1",
        "0", "0", ue(0), ue(0), ue(0), 3 * (ue(0) + f"{0:010b}{1023:010b}"), ue(0), ue(0),
        3 * (ue(0) + ue(0) + "0" + "".join(unity)),
    ]  # fmt: skip
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    payload = int(text, 2).to_bytes(len(text) // 8, "big") + b"\xaa\xbb\xcc\xdd\x80"
    escaped = b""
    for byte in b"\x19" + payload:
        escaped += b"\x03" * (escaped.endswith(b"\0\0") and byte < 4) + bytes([byte])
    return b"\0\0\0\1" + bytes([62 << 1, 1]) + escaped


@pytest.mark.parametrize(
    ("profile", "is_full_range", "signal", "is_doubted"),
    [(0, True, SILENT, True), (0, True, PQ, True), (1, False, HLG, False), (1, False, PQ, False)],
    ids=["profile 5", "profile 5 that says PQ", "profile 8.4", "profile 8.1"],
)
def test_dolby_vision_is_shown_by_its_base_layer_if_that_is_a_picture(
    profile: int, is_full_range: bool, signal: Signal, is_doubted: bool, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "a.hevc",
        paint("yuv420p10le", 9),
        signal,
        codec="libx265",
        frames=1,
        options=X265,
    )
    path.write_bytes(path.read_bytes() + dolby_vision(profile, is_full_range=is_full_range))
    with av.open(str(path)) as container:
        (picture,) = container.decode(video=0)
        assert picture.side_data.get("DOVI_METADATA") is not None
    (frame,) = read(path)
    assert ("Dolby Vision of profile 5" in frame.colour_doubt) == is_doubted
    if is_doubted:
        assert frame.rgb_HWC().shape == (64, PATCH_PX * len(PATCHES), 3)
    else:
        assert frame.colour_doubt == ""
        assert_patches(frame, [expect_hdr(rgb, signal.transfer) for rgb in PATCHES], within=2)


@pytest.mark.parametrize(("signal", "is_doubted"), [(SILENT, True), (PQ, False)])
def test_a_stream_for_dolby_s_players_alone_is_doubted_if_it_has_no_transfer(
    signal: Signal, is_doubted: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.mp4", paint("yuv420p10le", 9), signal, codec="libx265", options=X265)
    content = path.read_bytes()
    assert content.count(b"hev1") == 1
    path.write_bytes(content.replace(b"hev1", b"dvh1"))
    frame = read(path)[0]
    assert ("Dolby Vision of profile 5" in frame.colour_doubt) == is_doubted


YUV, HD_RGB = Form(640, 480, 8, is_rgb=False), Form(1920, 1080, 8, is_rgb=True)


def test_damage_to_one_picture_s_signal_raises_no_doubt() -> None:
    for damaged in (
        BT709._replace(transfer=3), BT709._replace(primaries=200),
        BT709._replace(matrix=Matrix.RGB), BT709._replace(matrix=3, range=7),
    ):  # fmt: skip
        reading = colour.decide(YUV, damaged, BT709)
        assert (reading.matrix, reading.range, reading.doubt) == (Matrix.BT709, 1, "")
        assert colour.decide(YUV, damaged, SILENT).doubt == ""
        is_range = damaged.range == 7
        doubt = colour.decide(YUV, damaged, damaged).doubt
        assert "not known" in doubt
        assert is_range == ("matrix is number 3" in doubt)
        assert colour.decide(YUV, SILENT, damaged).doubt == doubt


def test_a_number_of_ffmpeg_s_own_is_no_damage() -> None:
    log = colour.decide(YUV, Signal(transfer=256, matrix=1, range=1))
    assert "transfer is number 256" in log.doubt


def test_side_data_that_pyav_does_not_know_stop_no_video(tmp_path: Path) -> None:
    """Cameras put EXIF into each picture of Motion JPEG."""
    path = tmp_path / "a.mov"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", 25)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuvj420p"
        picture = paint("yuvj420p", Matrix.BT601_525, is_full=True)
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        for coded in [*stream.encode(picture), *stream.encode(None)]:
            packet = av.Packet(bytes(coded)[:2] + segment + bytes(coded)[2:])
            packet.stream, packet.time_base = stream, coded.time_base
            packet.pts, packet.dts, packet.is_keyframe = coded.pts, coded.dts, True
            container.mux(packet)
    (frame,) = read(path)
    assert_patches(frame, [expect_sdr(rgb) for rgb in PATCHES], within=8)


def test_numbers_without_a_meaning_in_the_container_raise_a_doubt(tmp_path: Path) -> None:
    options = {"x265-params": X265["x265-params"] + WITHOUT_SIGNAL}
    path = write(tmp_path / "a.mp4", paint("yuv420p10le", 6), PQ, codec="libx265", options=options)
    head, tail = path.read_bytes().split(b"colrnclx")
    path.write_bytes(head + b"colrnclx" + bytes([0, 1, 0, 3, 0, 6]) + tail[6:])
    frame = read(path)[0]
    assert "transfer is number 3" in frame.colour_doubt
    assert_patches(frame, [expect_sdr(rgb) for rgb in PATCHES], within=3.5)


def test_what_screens_show_as_it_is_takes_no_second_pass() -> None:
    for primaries in (1, 2, 4, 5, 6, 7, 22):
        for transfer in (1, 2, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            reading = colour.decide(YUV, Signal(primaries, transfer, Matrix.BT601_625, 1))
            assert (reading.matrix, reading.mapping, reading.doubt) == (5, None, "")


def test_a_matrix_says_nothing_of_rgb() -> None:
    for matrix in (Matrix.RGB, Matrix.BT709, Matrix.UNSPECIFIED):
        reading = colour.decide(HD_RGB, Signal(matrix=matrix), Signal(matrix=matrix))
        assert (reading.matrix, reading.mapping, reading.doubt) == (Matrix.RGB, None, "")


def test_a_matrix_derived_from_primaries_that_are_known_is_theirs() -> None:
    derived = BT709._replace(matrix=Matrix.DERIVED)
    assert colour.decide(YUV, derived).matrix == Matrix.BT709
    wide = HLG._replace(matrix=Matrix.DERIVED)
    assert colour.decide(YUV, wide) == colour.decide(YUV, HLG)
    odd = colour.decide(YUV, derived._replace(primaries=Primaries.FILM))
    assert "derived from the primaries" in odd.doubt


def test_hdr_that_signals_its_transfer_alone_is_in_bt2020() -> None:
    alone = Signal(transfer=Transfer.HLG, range=1)
    assert colour.decide(YUV, alone) == colour.decide(YUV, HLG)
    ipt = colour.decide(YUV, PQ, extras=Extras(is_ipt=True))
    assert ipt.mapping is None


# ---------------------------------------------------------------- parts, and what is written


def slopes(pix_fmt: str, rows: int, columns: int) -> av.VideoFrame:
    """Return a picture in which no two places are alike, with what no matrix makes of RGB too."""
    picture = av.VideoFrame(columns, rows, pix_fmt)
    bits = picture.format.components[0].bits
    rng = np.random.default_rng(3)
    for plane in picture.planes:
        numbers = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
        numbers[:] = rng.integers(16 << (bits - 8), 235 << (bits - 8), numbers.shape)
    return picture


BOXES = [(0, 0, 96, 64), (6, 10, 70, 50), (7, 11, 72, 49), (33, 5, 34, 6), (90, 60, 96, 64)]


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p", "yuv444p12le"]
)
@pytest.mark.parametrize(
    "signal", [HLG, PQ, BT709._replace(primaries=Primaries.DISPLAY_P3), BT709],
    ids=["HLG", "PQ", "P3", "SDR"],
)  # fmt: skip
def test_a_part_is_that_part_of_the_whole(pix_fmt: str, signal: Signal, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", slopes(pix_fmt, 64, 96), signal, frames=1)
    (frame,) = read(path)
    whole = frame.rgb_HWC()
    for left, top, right, bottom in BOXES:
        part = frame.crop_rgb_HWC((left, top, right, bottom))
        assert np.array_equal(part, whole[top:bottom, left:right]), (left, top)


def paint_rgb(size: tuple[int, int], count: int = 2) -> Iterator[NDArray[np.uint8]]:
    width, height = size
    patch = np.arange(width) * len(PATCHES) // width
    row = np.rint(255 * np.array(PATCHES))[patch].astype(np.uint8)
    for _ in range(count):
        yield np.repeat(row[None], height, axis=0)


@pytest.mark.parametrize(
    ("size", "signal"),
    [
        ((640, 480), Signal(2, 2, Matrix.BT601_525, 1)), ((1920, 1080), BT709),
        ((1080, 1920), BT709), ((1280, 720), BT709),
    ],
)  # fmt: skip
def test_what_is_written_is_read_again_and_says_what_it_is(
    size: tuple[int, int], signal: Signal, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    encoding.write_video(path, paint_rgb(size), rate_fps=25, crf=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0].codec_context
        declared = stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range
    assert declared == tuple(signal)
    for frame in read(path):
        assert_patches(frame, [expect_sdr(rgb) for rgb in PATCHES], within=4)
        assert frame.colour_doubt == ""


def test_a_degraded_copy_of_hdr_is_sdr_that_looks_the_same(tmp_path: Path) -> None:
    source = write(tmp_path / "a.mkv", paint("yuv420p10le", Matrix.BT2020), HLG, frames=3)
    copy = tmp_path / "copy.mp4"
    assert degrade.degrade(source, copy, [{"crf": 4}], np.random.default_rng(0)) is None
    for frame in read(copy):
        assert_patches(frame, [expect_hdr(rgb, Transfer.HLG) for rgb in PATCHES], within=5)


def clouds() -> av.VideoFrame:
    """Return a picture of 10 bits with light and dark places that no scaling moves."""
    picture = av.VideoFrame(256, 160, "yuv420p10le")
    rng = np.random.default_rng(5)
    for plane, (low, high) in zip(
        picture.planes, ((100, 650), (480, 540), (480, 540)), strict=True
    ):
        coarse = rng.integers(low, high, (6, 9)).astype(np.float32)
        fine = cv2.resize(coarse, (plane.width, plane.height), interpolation=cv2.INTER_CUBIC)
        rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
        rows[:, : plane.width] = np.clip(fine, 64, 940)
    return picture


@pytest.mark.parametrize("signal", [HLG, PQ], ids=["HLG", "PQ"])
def test_hdr_and_its_sdr_twin_look_alike_to_cuts_and_fingerprints(
    signal: Signal, tmp_path: Path
) -> None:
    hdr, sdr = tmp_path / "a.mkv", tmp_path / "b.mp4"
    shown = read(write(hdr, clouds(), signal))[0].rgb_HWC()
    encoding.write_video(sdr, [shown] * 2, rate_fps=25, crf=4)
    greys = [read(path)[0].thumbnail_HW().astype(float) for path in (hdr, sdr)]
    assert np.abs(greys[0] - greys[1]).mean() < 3
    hashes = [fingerprints.hash_video(path)[0] for path in (hdr, sdr)]
    first, twin = (np.unpackbits(np.frombuffer(bytes.fromhex(h), np.uint8)) for h in hashes)
    assert (first != twin).sum() <= 20  # what copies differ by at most, of 256
