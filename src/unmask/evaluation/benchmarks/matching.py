"""Which video of a benchmark another file means, by an id or by a path."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from unmask.data.archive import VIDEO_ENDINGS
from unmask.records import VideoRecord


class Matcher:
    """Finds the videos of a benchmark by what other people's files call them."""

    def __init__(
        self, records: Sequence[VideoRecord], paths: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Learn the videos' ids, and their paths: the benchmark's own, and more by video id."""
        self._ids = {record.video_id for record in records}
        self._whole: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._endings: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for record in records:
            for path in {record.file, *(paths or {}).get(record.video_id, ())}:
                parts = _parts(path)
                self._whole[parts].add(record.video_id)
                for start in range(len(parts)):
                    self._endings[parts[start:]].add(record.video_id)

    def by_id(self, text: str) -> set[str]:
        """Return the video of this id, as a set of one or none."""
        return {text} & self._ids

    def by_path(self, text: str) -> set[str]:
        """Return the videos that this path may mean: more than one where it does not tell.

        A path means a video where one of the two ends with the other; only whole names between
        slashes count, and a video's extension does not. Of several videos whose paths it ends with
        it means the one with the longest. A path that is all of a video's means that one alone.
        """
        parts = _parts(text)
        if parts in self._whole:
            return set(self._whole[parts])
        endings = [parts[start:] for start in range(1, len(parts))]
        longest = next((self._whole[each] for each in endings if each in self._whole), set())
        return longest | self._endings.get(parts, set())


def _parts(path: str) -> tuple[str, ...]:
    """Return the names in a path of either system; the last without a video's extension.

    A folder of frames that is named as a video has none, and may have a point in its name.
    """
    names = [name for name in path.replace("\\", "/").split("/") if name not in ("", ".")]
    if not names:
        return ()
    last = PurePosixPath(names[-1])
    return *names[:-1], last.stem if last.suffix.lower() in VIDEO_ENDINGS else last.name
