"""Where `unmask predict` writes what it makes besides answers: nothing of others is replaced.

All of it is checked before the first video is scored.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import click

from unmask.errors import UnmaskError


def targets(
    videos: Sequence[Path],
    target: Path | None,
    ending_of: Callable[[Path], str],
    is_ours: Callable[[Path], bool],
) -> dict[Path, Path]:
    """Return the file to make of each video: target itself, or one in it by the video's name.

    ending_of gives the ending of the file that is made of a video. Only what an earlier run wrote
    there, by is_ours, is replaced.
    """
    if target is None:
        return {}
    endings = {video: ending_of(video) for video in videos}
    known = " or ".join(sorted(set(endings.values())))
    if target.suffix.lower() in endings.values():
        if len(videos) > 1:
            raise click.UsageError(
                f"{target} is one file, and {len(videos)} videos were named. Name a folder."
            )
        files = dict.fromkeys(videos, target)
    elif target.suffix and not target.is_dir():
        raise click.UsageError(
            f"{target} ends in {target.suffix}; what is written ends in {known}. Name such a "
            "file, or a folder, which exists where its name has a dot."
        )
    else:
        files, taken = {}, set()
        for video, ending in endings.items():
            file, number = target / f"{video.stem}{ending}", 1
            while file in taken:
                number += 1
                file = target / f"{video.stem}-{number}{ending}"
            taken.add(file)
            files[video] = file
    _check_places(files.values(), videos, known, is_ours)
    return files


def _check_places(
    files: Collection[Path],
    videos: Sequence[Path],
    ending: str,
    is_ours: Callable[[Path], bool],
) -> None:
    """Refuse places that can't be written, before the first video is scored; make their folders."""
    originals = {os.path.realpath(video) for video in videos}
    for file in files:
        if os.path.realpath(file) in originals:
            raise UnmaskError(
                f"Asked to write {file}; that is a video to be read. Name another place."
            )
    refuse_others(files, is_ours)
    for folder in {file.parent for file in files}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            said = None if os.access(folder, os.W_OK | os.X_OK) else "you may not write there"
        except OSError as error:
            said = error.strerror
        if said:
            raise UnmaskError(
                f"Asked to write into the folder {folder}; the system said: {said}. Name another, "
                f"or a file that ends in {ending}."
            )


def refuse_others(files: Iterable[Path], is_ours: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that no earlier run wrote, by is_ours."""
    for file in files:
        if os.path.lexists(file) and not is_ours(file):
            raise UnmaskError(
                f"Asked to write {file}; a file that unmask did not write is there. Move it away, "
                "or name another place."
            )


def check_index(index: Path, videos: Sequence[Path], pages: Mapping[Path, Path]) -> None:
    """Refuse a place of --index's page that can't be written, or that a report takes."""
    from unmask.answers import provenance

    if index.suffix.lower() != ".html":
        raise click.UsageError(f"{index} does not end in .html, as --index's page does.")
    if os.path.realpath(index) in {os.path.realpath(page) for page in pages.values()}:
        raise click.UsageError(f"{index} is the report of a video. Name another file for --index.")
    _check_places([index], videos, ".html", provenance.is_index)
