"""DF-TIMIT (DeepfakeTIMIT) beside the videos of VidTIMIT that it was made from.

lower_quality/ and higher_quality/ hold <person>/<sentence>-video-<donor>.avi: the sentence that
person says in VidTIMIT with the donor's face (Korshunov and Marcel, 2018, arXiv:1812.08685). Its
real videos are VidTIMIT's, which is shared as JPEG frames without an ending, 25 a second:
<person>/video/<sentence>/001 (Sanderson and Lovell, 2009); or as <person>/<sentence>.avi.
"""

import re

from unmask.data.archive import ChunkFiles, is_picture, shorten
from unmask.data.layouts.entry import Entry, refuse, stem, videos_below
from unmask.data.layouts.frames import Clip, Settings, frame_clips, read_settings

_QUALITY = r"(?:DeepfakeTIMIT/)?(lower|higher)_quality/([a-z0-9]+)/([a-z0-9]+)-video-([a-z0-9]+)"
_FRAMES = re.compile(r"(?i:vidtimit)/([a-z0-9]+)/video/([a-z0-9]+)")
_FILE = re.compile(r"(?i:vidtimit)/([a-z0-9]+)/(?:video/)?([a-z0-9]+)")
_FAKES = ("DeepfakeTIMIT/", "lower_quality/", "higher_quality/")
_REAL = ("VidTIMIT/", "vidtimit/")
_RATE_FPS = 25.0


def read_df_timit(files: ChunkFiles) -> list[Entry]:
    """Return the videos; a person of VidTIMIT is a source, the person swapped in a donor.

    The head rotations of VidTIMIT (head, head2, head3), which nothing was made from, are left out.
    """
    entries, problems = [], []
    for path in videos_below(files, _FAKES):
        match = re.fullmatch(_QUALITY, path.rpartition(".")[0])
        if not match:
            problems.append(
                f"{shorten(path)}: should be like higher_quality/fadg0/sa1-video-fram1.avi"
            )
            continue
        quality, person, _, donor = match.groups()
        entries.append(
            Entry(
                file=path.removeprefix("DeepfakeTIMIT/").replace("/", "_"), label=1,
                source_id=f"timit {person}", method=f"faceswap-GAN {quality} quality", split="",
                path=path, donors=(f"timit {donor}",),
            )
        )  # fmt: skip
    for clip in _real_clips(files):
        pattern = _FRAMES if clip.frames else _FILE
        match = pattern.fullmatch(clip.path if clip.frames else clip.path.rpartition(".")[0])
        if not match:
            problems.append(f"{shorten(clip.path)}: should be like VidTIMIT/fadg0/video/sa1/001")
            continue
        if re.fullmatch(r"head[0-9]*", match[2]):
            continue
        name = f"vidtimit_{match[1]}_{match[2]}"
        ending = "mov" if clip.frames else clip.path.rpartition(".")[2]
        entries.append(
            Entry(
                file=f"{name}.{ending}", label=0, source_id=f"timit {match[1]}", method="real",
                split="", path=clip.path, frames=clip.frames,
            )
        )  # fmt: skip
    refuse(problems, files.where)
    return entries


def _real_clips(files: ChunkFiles) -> list[Clip]:
    videos = [Clip(path) for path in videos_below(files, _REAL)]
    pictures = [
        path for path in files.sizes
        if path.startswith(_REAL) and (is_picture(path) or stem(path).isdigit())
        and "/video/" in path and path not in {clip.path for clip in videos}
    ]  # fmt: skip
    said = read_settings(files)
    settings = Settings(said.rate_fps or _RATE_FPS, said.is_track)
    return videos or frame_clips(pictures, settings, is_track=False)
