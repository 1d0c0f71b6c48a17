"""What programs write into a container about themselves: encoder, software, camera."""

from pathlib import Path

from unmask.video.streams import open_file

# Names of tags, in small letters, as FFmpeg gives them for MP4, MOV, Matroska, AVI and ASF. Those
# that name a person or a place are left out: they say nothing of how a file was made.
_TOLD = (
    "encoder", "encoded_by", "software", "creation_tool", "writing_application", "writing_library",
    "muxing_application", "com.apple.quicktime.software", "com.android.version", "make", "model",
    "com.apple.quicktime.make", "com.apple.quicktime.model", "creation_time", "handler_name",
    "vendor_id", "comment", "description", "synopsis", "aigc", "generator",
)  # fmt: skip
_SAYS_NOTHING = {"VideoHandler", "SoundHandler", "ISO Media file produced by Google Inc.", ""}


def read_tags(path: Path) -> dict[str, str]:
    """Return what is told of how a file was made, by the tag's name in small letters.

    Tags of the file come before those of its streams. Anybody can write, change or delete them.

    Raises:
        DecodeError: no such file, not a video.
    """
    found: dict[str, str] = {}
    with open_file(path) as container:
        for tags in (container.metadata, *(stream.metadata for stream in container.streams)):
            for name, value in tags.items():
                key = name.lower()
                if key in _TOLD and value.strip() not in _SAYS_NOTHING:
                    found.setdefault(key, value.strip())
    return {key: found[key] for key in _TOLD if key in found}
