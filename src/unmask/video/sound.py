"""The sound of a video, copied to pictures that were made of it."""

import heapq
import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from unmask.runtime.disk import create, give_name, new_name, writing
from unmask.video.streams import find_pictures, open_file

_log = logging.getLogger(__name__)

_CODECS = {"aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus"}  # that an MP4 can hold
_Packets = Iterator[Any]  # "av.Packet", generic in PyAV's stub alone


def add(pictures: Path, source: Path, out: Path) -> None:
    """Move the pictures, an MP4, to out with the sound of source, as far as they go.

    Nothing is encoded anew. The pictures' first frame is source's, from which sound keeps its
    distance. Where there is none that an MP4 can hold, or it is damaged, out is without; a warning
    says so. out gets its name when it is whole.

    Raises:
        DecodeError: source is no video.
        DiskError: the disk takes no more.
    """
    part = new_name(out, "part")
    with open_file(source) as container:
        stream = _find(container, source)
        try:
            if stream is not None:
                with writing(out):
                    os.close(create(part))  # FFmpeg would follow a link
                    _copy(pictures, _packets(container, stream, source), stream, part)
                    give_name(part, out)
                return
        except av.error.FFmpegError as error:
            _log.warning("%s: its sound can't be copied (%s)", source, error.strerror)
        finally:
            part.unlink(missing_ok=True)
    with writing(out):
        give_name(pictures, out)


def _find(container: InputContainer, source: Path) -> AudioStream | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
    if codec in _CODECS:
        return stream
    _log.warning("%s: its sound, %s, can't be copied into an MP4", source, codec)
    return None


def _copy(pictures: Path, sound: _Packets, template: AudioStream, part: Path) -> None:
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with (
        open_file(pictures) as silent,
        av.open(f"file:{part}", "w", format="mp4", container_options=options) as target,
    ):
        target.metadata.update(silent.metadata)
        seen = silent.streams.video[0]
        streams = {
            "video": target.add_stream_from_template(seen),
            "audio": target.add_stream_from_template(template),
        }
        end_s = (seen.duration or 0) * (seen.time_base or 0)
        shown = (packet for packet in silent.demux(seen) if packet.dts is not None)
        heard = takewhile(lambda packet: _time_s(packet) < end_s, sound)
        # In the order of their times, else the writer keeps what comes too early in memory.
        for packet in heapq.merge(shown, heard, key=_time_s):
            packet.stream = streams[packet.stream.type]
            target.mux(packet)


def _packets(container: InputContainer, stream: AudioStream, source: Path) -> _Packets:
    """Yield the sound from source's first frame on, whose time becomes 0."""
    seen = find_pictures(container, source)
    first_s = (seen.start_time or 0) * (seen.time_base or 0)
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts -= round(first_s / packet.time_base)
            packet.dts = packet.pts  # no codec of sound has another order
            if packet.pts >= 0:
                yield packet
    except av.error.FFmpegError as error:
        _log.warning("%s: its sound breaks off (%s)", source, error.strerror)


def _time_s(packet: Any) -> Fraction:
    return packet.dts * packet.time_base  # type: ignore[no-any-return]
