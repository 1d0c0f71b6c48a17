"""WildDeepfake: folders of frames that are face tracks already.

It is shared as archives, real_train/1.tar.gz ..., each of a video from the internet (Zi et al.,
2020, arXiv:2101.01456: 7,314 face sequences of 707 videos). Unpacked where they lie they give
<kind>_<split>/<archive>/<kind>/<sequence>/<number>.png; other copies leave out a folder or two.
"""

from unmask.data.archive import LAYOUTS, ChunkFiles, first_few, is_picture, shorten
from unmask.data.layouts.entry import Entry
from unmask.data.layouts.frames import frame_clips, read_settings
from unmask.errors import DatasetError

_PLAIN = {"real", "fake", "extracted", "frames"}  # folders that name nothing


def read_wilddeepfake(files: ChunkFiles) -> list[Entry]:
    """Return a video for each sequence; an archive is a source, as one video gave its sequences."""
    tops = LAYOUTS["WildDeepfake"]
    pictures = [path for path in files.sizes if path.startswith(tops) and is_picture(path)]
    packed = [
        path
        for path in files.sizes
        if path.startswith(tops) and path.endswith((".tar.gz", ".tar", ".tgz"))
    ]
    if packed and not pictures:
        raise DatasetError(
            f"Asked for the sequences of {files.where}; found {len(packed)} archives that are not "
            f"unpacked: {first_few([shorten(path) for path in packed])}. Unpack each where it lies."
        )
    entries = []
    for clip in frame_clips(pictures, read_settings(files)):
        top, *folders = clip.path.split("/")
        kind, split = top.split("_")
        named = [folder for folder in folders if folder not in _PLAIN]
        source = named[0] if named else "all"
        label = int(kind == "fake")
        entries.append(
            Entry(
                file=f"{'_'.join([top, *(named or ['all'])])}.mov", label=label,
                source_id=f"wild {top} {source}", method="WildDeepfake" if label else "real",
                split=split, path=clip.path, frames=clip.frames,
            )
        )  # fmt: skip
    return entries
