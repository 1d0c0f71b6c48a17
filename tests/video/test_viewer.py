"""Every frame that a viewer sees is read, at the time when it is seen, or it is counted."""

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from tests.conftest import make_video_file, paint_index, read_painted_index
from unmask.video import decode, frame
from unmask.video.decode import Account
from unmask.video.failures import DecodeError, TruncatedError

Picture = NDArray[np.uint8]
HEVC = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
SHORT = {"frames": 40, "rate_fps": 25}


def later(index: int, size: tuple[int, int]) -> Picture:
    """Paint the indices from 1000 on."""
    return paint_index(1000 + index, size)


def read(path: Path, rate_fps: float | None = None) -> tuple[list[int], list[float], Account]:
    """Return which frames were read, when they are shown, and what is said of the file."""
    account = Account()
    frames = list(decode.read_frames(path, rate_fps=rate_fps, account=account))
    indices = [read_painted_index(frame.rgb_HWC()) for frame in frames]
    return indices, [frame.time_s for frame in frames], account


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


BOTH = [*range(40), *range(1000, 1040)]


# ---------------------------------------------------------------- joined recordings


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("a.ts", {}, {}),
        ("a.ts", {"options": {"bf": "0"}}, {}),
        ("a.ts", {}, {"size": (64, 48)}),
        ("a.ts", {}, HEVC),
        ("a.ts", {"codec": "mpeg2video"}, {"size": (160, 96)}),
        ("a.mpg", {"codec": "mpeg2video"}, {"codec": "mpeg2video"}),
        ("a.webm", {"codec": "libvpx"}, {"codec": "libvpx"}),
        ("a.mkv", {}, {}),
        ("a.webm", {"codec": "libvpx"}, {"codec": "libvpx", "size": (64, 48)}),
        ("a.m2ts", {}, HEVC),
    ],
)
@pytest.mark.parametrize("rate_fps", [None, 10])
def test_of_joined_recordings_all_is_read_and_time_goes_on(
    tmp_path: Path,
    name: str,
    first: dict[str, Any],
    second: dict[str, Any],
    rate_fps: float | None,
) -> None:
    parts = [
        make_video_file(tmp_path / f"{number}{name}", paint=paint, **SHORT | more)
        for number, (paint, more) in enumerate([(paint_index, first), (later, second)])
    ]
    indices, times_s, account = read(join(tmp_path / name, *parts), rate_fps)
    assert not account.left_out
    if rate_fps is None:
        assert indices == BOTH
        assert times_s == pytest.approx([k / 25 for k in range(80)], abs=3e-3)
    else:  # at each tenth of a second the last frame that began: 1.6 s are 16 ticks
        shown = [5 * tick // 2 for tick in range(16)]
        assert indices == [*shown, *(1000 + index for index in shown)]


def test_three_recordings_of_three_kinds_are_three_parts(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{}, {"codec": "mpeg2video"}, HEVC]
    parts = [
        make_video_file(tmp_path / f"{number}.ts", **SHORT | kind)
        for number, kind in enumerate(kinds)
    ]
    indices, times_s, account = read(join(tmp_path / "a.ts", *parts))
    assert indices == [*range(40)] * 3
    assert times_s == pytest.approx([k / 25 for k in range(120)], abs=3e-3)
    assert not account.left_out


def test_a_part_that_does_not_decode_is_counted(tmp_path: Path) -> None:
    whole = make_video_file(tmp_path / "1.ts", **SHORT)
    other = make_video_file(tmp_path / "2.ts", **SHORT | HEVC)
    packets = other.read_bytes()
    pictures = b"".join(
        packets[at : at + 188] for at in range(0, len(packets), 188)
        if (packets[at + 1] & 0x1F, packets[at + 2]) != (1, 0)  # the identifier of its video, 256
    )  # fmt: skip
    other.write_bytes(pictures)
    indices, _, account = read(join(tmp_path / "a.ts", whole, other, whole))
    assert indices == [*range(40)] * 2
    assert account.left_out_words == "1 parts that can't be decoded"


@pytest.mark.parametrize("first_s", [2**33 / 90_000 - 0.7, 2**33 / 90_000 - 400])
def test_a_counter_that_begins_anew_does_not_stop_time(tmp_path: Path, first_s: float) -> None:
    # 33 bits at 90 kHz: the second one wraps within the joined file, after 400 s of another clock.
    late = rewrap(make_video_file(tmp_path / "1.mp4", **SHORT), tmp_path / "1.ts", first_s)
    early = make_video_file(tmp_path / "2.ts", paint=later, **SHORT)
    indices, times_s, account = read(join(tmp_path / "a.ts", late, early))
    assert indices == BOTH
    assert times_s == pytest.approx([k / 25 for k in range(80)], abs=3e-3)
    assert not account.left_out


def rewrap(source: Path, path: Path, first_s: float) -> Path:
    """Copy the packets of a video so that they begin at a time."""
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(str(source)) as before,
        av.open(str(path), "w", container_options=options) as after,
    ):
        stream = before.streams.video[0]
        copy = after.add_stream_from_template(stream)
        shift = round(Fraction(first_s) / stream.time_base)
        for packet in before.demux(stream):
            if packet.size:
                packet.stream = copy
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                after.mux(packet)
    return path


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 5, 6], [0, 1, 5, 6]),  # a frame that is held
        ([0, 1, 1, 2], [0, 1, 1.5, 2]),  # two at one time: both are looked at
        ([0, 3, 1, 2, 6, 4], [0, 3, 4, 5, 6, 7]),  # an odd order for less than a second
        ([100, 101, 0, 1, 2], [0, 1, 2, 3, 4]),  # a clock that begins anew, after a whole frame
        ([100, 101, 0, 1, 100, 101], [0, 1, 2, 3, 102, 103]),
    ],
)
def test_a_clock_goes_on_whatever_its_stamps_do(
    stamps: Sequence[int], times: Sequence[float]
) -> None:
    assert place(stamps, "matroska") == times


def test_a_leap_is_a_join_where_recordings_are_made_to_be_joined() -> None:
    assert place([0, 1, 400, 401], "mpegts") == [0, 1, 2, 3]
    assert place([0, 1, 400, 401], "matroska") == [0, 1, 400, 401]


def place(stamps: Sequence[int], name: str) -> list[float]:
    """Return the times of frames of a tenth of a second, in tenths."""
    container = SimpleNamespace(format=SimpleNamespace(name=name))
    stream: Any = SimpleNamespace(
        guessed_rate=Fraction(10), average_rate=None, time_base=Fraction(1, 10),
        container=container,
    )  # fmt: skip
    clock = decode._Clock(stream)
    return [float(clock.place(stamp, 1)[0] * 10) for stamp in stamps]


@pytest.mark.parametrize("name", ["a.mp4", "a.flv", "a.mkv"])
def test_a_recording_that_no_player_goes_on_to_is_counted(tmp_path: Path, name: str) -> None:
    first = make_video_file(tmp_path / f"1{name}", **SHORT)
    second = make_video_file(tmp_path / f"2{name}", paint=later, size=(64, 48), **SHORT)
    indices, _, account = read(join(tmp_path / name, first, second))
    assert indices[:40] == [*range(40)]
    assert account.left_out_words == "1 recording behind the end of the first"
    assert not read(first)[2].left_out


def test_frames_that_need_what_was_lost_are_counted(tmp_path: Path) -> None:
    path = make_video_file(tmp_path / "a.ts", frames=100, options={"g": "25", "bf": "0"})
    whole = path.read_bytes()
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    starts = [
        number for number, packet in enumerate(packets)
        if packet[1] & 0x40 and (packet[1] & 0x1F, packet[2]) == (1, 0)
    ]  # fmt: skip
    # Without the second picture that decodes by itself, 24 hang on another one than they should.
    path.write_bytes(b"".join(packets[: starts[25]] + packets[starts[26] :]))
    indices, _, account = read(path)
    assert len(indices) + account.left_out.total() >= 99
    begun = b"".join(packets[starts[30] :])  # a broadcast that is switched on between two of them
    tables = b"".join(packets[: starts[0]])
    path.write_bytes(tables + begun)
    indices, _, account = read(path)
    assert indices[-1] == 99
    assert not account.left_out


# ---------------------------------------------------------------- edit lists


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(2000, 0)], range(50)),  # the end is cut off
        ([(1000, 1000)], range(25, 50)),  # the beginning, too, in the middle of a group
        ([(1000, 0), (1000, 0)], [*range(25), *range(25)]),  # shown twice
        ([(1000, 2000), (1000, 0)], [*range(50, 75), *range(25)]),  # in another order
        ([(1000, -1), (1000, 0)], range(25)),  # nothing for a second
    ],
)
def test_an_edit_list_says_what_is_shown(
    tmp_path: Path,
    edits: Sequence[tuple[int, int]],
    expected: Sequence[int],
) -> None:
    source = make_video_file(
        tmp_path / "a.mov", frames=100, rate_fps=25, options={"g": "10", "bf": "0"}
    )
    path = edit(source, edits)
    indices, times_s, account = read(path)
    assert indices == list(expected)
    assert times_s == pytest.approx([k / 25 for k in range(len(expected))], abs=2e-3)
    assert not account.left_out
    assert read(path, 5)[0] == list(expected)[::5]


def edit(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Give a MOV, whose index is at its end, an edit list: milliseconds, and from where on."""
    content = path.read_bytes()
    with av.open(str(path)) as container:
        per_ms = 1 / container.streams.video[0].time_base / 1000
    start = content.index(b"elst") - 4
    old_bytes = struct.unpack_from(">I", content, start)[0]
    rows = b"".join(
        struct.pack(">Iii", length, at if at < 0 else round(at * per_ms), 0x10000)
        for length, at in edits
    )
    new = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    grown = len(new) - old_bytes
    changed = bytearray(content[:start] + new + content[start + old_bytes :])
    for kind in (b"edts", b"trak", b"moov"):
        at = content.rindex(kind, 0, start + 1) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", content, at)[0] + grown)
    path.write_bytes(changed)
    return path


# ---------------------------------------------------------------- which stream


def write_streams(
    path: Path, *streams: dict[str, Any], frames: int = 20, rate_fps: int = 10
) -> Path:
    """Write several streams of pictures; the number n paints its indices from 100 n on."""
    with av.open(str(path), "w") as container:
        writers = []
        for each in streams:
            codec = each.get("codec", "libx264")
            stream = container.add_stream(codec, rate_fps)
            stream.width, stream.height = each.get("size", (128, 96))
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = each.get("disposition", Disposition(0))
            writers.append(stream)
        for index in range(frames):
            for number, (stream, each) in enumerate(zip(writers, streams, strict=True)):
                if index < each.get("frames", frames):
                    pixels = paint_index(100 * number + index, (stream.width, stream.height))
                    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    container.mux(stream.encode(picture))
        for stream in writers:
            container.mux(stream.encode(None))
    return path


DEFAULT = Disposition.default
THUMBNAIL = {"codec": "mjpeg", "frames": 1}


@pytest.mark.parametrize(
    ("name", "streams", "shown"),
    [
        ("a.mkv", [{"disposition": DEFAULT}, {}], 0),
        ("a.mkv", [{}, {"disposition": DEFAULT}], 1),
        ("a.mkv", [{"disposition": DEFAULT, **THUMBNAIL}, {}], 1),
        ("a.mp4", [{}, {"disposition": DEFAULT, "frames": 1}], 0),
        ("a.mp4", [{"disposition": DEFAULT}, {}], 0),  # a track that is not enabled is not shown
        ("a.mp4", [{}, {"disposition": DEFAULT}], 1),
        ("a.mp4", [{"disposition": DEFAULT, **THUMBNAIL}, {}], 1),
        ("a.mp4", [{"disposition": DEFAULT | Disposition.attached_pic, **THUMBNAIL}, {}], 1),
        ("a.mkv", [{"disposition": Disposition.visual_impaired}, {}], 1),
    ],
)
def test_the_stream_that_players_show_is_read(
    tmp_path: Path, name: str, streams: list[dict[str, Any]], shown: int
) -> None:
    path = write_streams(tmp_path / name, *streams)
    indices, _, account = read(path)
    assert indices == [100 * shown + index for index in range(20)]
    assert not account.left_out
    (keyframe, *_) = decode.read_keyframes(path)
    assert read_painted_index(keyframe.rgb_HWC()) == 100 * shown


def test_other_streams_are_named(tmp_path: Path) -> None:
    shown = {"disposition": DEFAULT}
    two = write_streams(tmp_path / "2.mkv", {"size": (64, 48), "codec": "mpeg4"}, shown)
    assert read(two)[2].others_words == "a second video stream, 64 x 48, mpeg4, was not looked at"
    three = write_streams(tmp_path / "3.mkv", shown, {"size": (64, 48)}, {"size": (32, 32)})
    assert read(three)[2].others_words == (
        "2 other video streams (64 x 48, h264; 32 x 32, h264) were not looked at"
    )
    cover = {"disposition": Disposition.attached_pic, **THUMBNAIL}
    assert read(write_streams(tmp_path / "1.mp4", shown, cover))[2].others == []


def test_a_stream_that_goes_on_after_the_one_that_was_read_is_a_doubt(tmp_path: Path) -> None:
    shown, longer = {"disposition": DEFAULT, "frames": 20}, {}
    path = write_streams(tmp_path / "a.mp4", shown, longer, frames=60)
    with pytest.raises(TruncatedError, match=r"end at 2\.00 s, while another .* on to 6\.00 s"):
        list(decode.read_frames(path))
    path = write_streams(tmp_path / "b.mp4", shown, longer, frames=28)
    assert read(path)[0] == [*range(20)]


def test_nothing_but_a_single_picture_is_still_looked_at(tmp_path: Path) -> None:
    assert read(write_streams(tmp_path / "a.mp4", {"frames": 1}))[0] == [0]


# ---------------------------------------------------------------- whole and cut, without a length


def stream_out(source: Path, path: Path, kind: str, options: dict[str, str]) -> bytes:
    """Copy a video as a recorder does that can't go back in its file; return what it wrote."""
    with path.open("wb") as file, av.open(str(source)) as before:
        sink: Any = SimpleNamespace(write=file.write)  # no seek
        with av.open(sink, "w", format=kind, container_options=options) as after:
            stream = before.streams.video[0]
            copy = after.add_stream_from_template(stream)
            for packet in before.demux(stream):
                if packet.size:
                    packet.stream = copy
                    after.mux(packet)
    return path.read_bytes()


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
LIVE: list[tuple[str, str, str, dict[str, str]]] = [
    ("a.mp4", "mp4", "libx264", FRAGMENTS),
    ("a.webm", "webm", "libvpx", {"live": "1"}),
    ("a.mkv", "matroska", "libx264", {"live": "1"}),
    ("a.flv", "flv", "libx264", {"flvflags": "no_duration_filesize"}),
    ("a.ts", "mpegts", "libx264", {}),
    ("a.avi", "avi", "mpeg4", {}),
]


@pytest.mark.parametrize(("name", "kind", "codec", "options"), LIVE)
def test_a_recording_without_a_length_is_whole_where_it_ends_cleanly_and_else_is_not(
    tmp_path: Path, name: str, kind: str, codec: str, options: dict[str, str]
) -> None:
    source = make_video_file(
        tmp_path / "source.mkv", frames=90, rate_fps=30, codec=codec, options={"g": "15"}
    )
    path = tmp_path / name
    whole = stream_out(source, path, kind, options)
    indices, _, account = read(path)
    assert indices == [*range(90)]
    assert not account.left_out
    for share in (0.47, 0.73, 0.97):
        path.write_bytes(whole[: int(len(whole) * share)])
        found: list[frame.Frame] = []
        with pytest.raises(TruncatedError):
            found.extend(decode.read_frames(path))
        assert 10 < len(found) < 90


def test_sound_that_goes_on_is_a_doubt_where_no_length_is_declared(tmp_path: Path) -> None:
    path = make_video_file(tmp_path / "a.ts", frames=30, sound_s=8)
    with pytest.raises(TruncatedError, match=r"end at 1\.00 s, while the sound goes on to 8\.0"):
        list(decode.read_frames(path))
    path = make_video_file(tmp_path / "b.ts", frames=30, sound_s=1.9)
    assert len(list(decode.read_frames(path))) == 30


# ---------------------------------------------------------------- how long


def test_a_frame_is_shown_until_the_next_one(tmp_path: Path) -> None:
    times_s = [0, 0.04, 1.5, 1.54, 4.0]
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = make_video_file(tmp_path / name, times_s=times_s, rate_fps=25)
        frames = list(decode.read_frames(path))
        assert [frame.time_s for frame in frames] == pytest.approx(times_s, abs=2e-3)
        shown_s = [frame.duration_s for frame in frames]
        assert shown_s[:4] == pytest.approx([0.04, 1.46, 0.04, 2.46], abs=2e-3), name


def test_an_empty_avi_chunk_holds_the_picture_before_it(tmp_path: Path) -> None:
    path = make_video_file(tmp_path / "a.avi", frames=20, rate_fps=10, codec="mjpeg",
                           pix_fmt="yuvj420p")  # fmt: skip
    content = path.read_bytes()
    index = content.index(b"idx1")
    # The index says of the sixth picture that it has no bytes: what recorders write for no change.
    entry = index + 8 + 16 * 5
    path.write_bytes(content[: entry + 12] + bytes(4) + content[entry + 16 :])
    indices, _, _ = read(path)
    assert indices[-1] == 19
    assert len(indices) in (19, 20)


def _frames(path: Path) -> Iterator[int]:
    yield from (read_painted_index(frame.rgb_HWC()) for frame in decode.read_keyframes(path))


def test_keyframes_of_joined_recordings_are_all_there(tmp_path: Path) -> None:
    options = {"options": {"g": "20", "sc_threshold": "0"}}
    parts = [
        make_video_file(tmp_path / f"{number}.ts", paint=paint, **SHORT, **options)
        for number, paint in enumerate((paint_index, later))
    ]
    assert list(_frames(join(tmp_path / "a.ts", *parts))) == [0, 20, 1000, 1020]


@pytest.mark.parametrize("write", [Path.touch, lambda path: path.write_bytes(b"G" * 400)])
def test_what_is_no_stream_is_refused(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "a.ts")
    with pytest.raises(DecodeError):
        list(decode.read_frames(tmp_path / "a.ts"))
