"""Deals a chunk's shards to nodes, and collects what they made: retries, and keeps what is done."""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unmask.errors import UnmaskError
from unmask.faces import shards
from unmask.faces.crops import Job
from unmask.faces.shards import Shard, ShardError
from unmask.records import VideoFaces

_log = logging.getLogger(__name__)

_ATTEMPTS = 3  # in which a shard's process ends and nothing is done: then it is not the node
_ALONE_S = 60.0  # without a node that can work


@dataclass(eq=False)
class Node:
    """A machine of the cluster."""

    name: str
    cores: int  # that it has for shards
    shard_cores: int  # of one shard
    running: int = 0  # shards
    left_out: str = ""  # why it gets no more

    @property
    def is_free(self) -> bool:
        """Say whether it has room for one more shard."""
        return not self.left_out and (self.running + 1) * self.shard_cores <= self.cores


@dataclass(frozen=True)
class Attempt:
    """A shard that a node is at, and the folder it writes to."""

    shard: Shard
    node: Node
    folder: Path
    number: int  # of attempts at these videos that nodes were fit for, this one included


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: the digests of its crop files, or why there are none."""

    attempt: Attempt
    digests: Mapping[str, str]
    failure: str = ""
    is_the_nodes: bool = False  # the node can't work, so it gets no more


class Nodes(Protocol):
    """The nodes of a cluster, and what they are at."""

    def present(self) -> Sequence[Node]:
        """Return the nodes that are there now and were looked at; some may be left out."""

    def is_looking(self) -> bool:
        """Say whether some nodes that are there have not been looked at yet."""

    def start(self, attempt: Attempt) -> None:
        """Have the attempt's node crop its shard; return at once."""

    def wait(self) -> Sequence[Outcome]:
        """Return the attempts that have ended, after a second at the latest."""

    def stop(self) -> None:
        """Stop the attempts that still run."""


class Collect(Protocol):
    """Brings what nodes made of videos into an attempt's folder: files.Files.collect."""

    def __call__(self, jobs: Sequence[Job], folder: Path, *, passing: bool) -> None:
        """Fill the folder; passing says whether failures that may pass are taken, too."""


def _nothing_to_collect(jobs: Sequence[Job], folder: Path, *, passing: bool) -> None:
    """Leave the folder as nodes filled it."""


def crop_on(
    nodes: Nodes,
    jobs: Sequence[Job],
    root: Path,
    *,
    shard_videos: int,
    collect: Collect = _nothing_to_collect,
) -> Iterator[VideoFaces]:
    """Yield a row for each video once its crop files are in its faces_dir.

    Attempts' folders are in root. collect brings into one what its node made, where nodes don't
    fill it themselves. What an interrupted run left is taken in first. A
    shard whose node dies or fails goes to another, without the videos of it that were done. A node
    that fails gets no more; a node that joins gets some.

    Raises:
        UnmaskError: no node can work, or a shard ended its process several times.
        DiskError: the disk here takes no more.
    """
    chunk = jobs[0].faces_dir.name
    shards_dir = root / shards.SHARDS_DIR / chunk
    left = {job.video_id: job for job in jobs}
    collect(jobs, shards.new_folder(shards_dir, Shard(tuple(jobs))), passing=False)
    for row in shards.take_in_leftovers(shards.attempts_at(shards_dir), jobs):
        del left[row.video_id]
        yield row
    waiting = deque((shard, 1) for shard in shards.cut(list(left.values()), shard_videos))
    total, done, had_node_s = len(waiting), 0, time.monotonic()
    try:
        while done < total:
            present = nodes.present()
            if any(not node.left_out for node in present):
                had_node_s = time.monotonic()
            _refuse_if_alone(present, time.monotonic() - had_node_s, is_looking=nodes.is_looking())
            for node in present:
                while waiting and node.is_free:
                    shard, number = waiting.popleft()
                    folder = shards.new_folder(shards_dir, shard)
                    nodes.start(Attempt(shard, node, folder, number))
                    node.running += 1
            for outcome in nodes.wait():
                attempt = outcome.attempt
                attempt.node.running -= 1
                rest = yield from _take_in(outcome, collect)
                if rest:
                    # On a machine that is often taken back a shard may take many, bit by bit.
                    got_on = len(rest) < len(attempt.shard.jobs)
                    # A node that is left out says nothing about the videos.
                    more = 0 if attempt.node.left_out else 1
                    waiting.appendleft((Shard(tuple(rest)), 1 if got_on else attempt.number + more))
                    continue
                done += 1
                _log.info(
                    "%s: shard %d of %d is there, by %s", chunk, done, total, attempt.node.name
                )
    finally:
        nodes.stop()
    shards.discard(shards_dir)
    with suppress(OSError):  # it holds a marker, or other chunks' shards
        shards_dir.parent.rmdir()


def _take_in(outcome: Outcome, collect: Collect) -> Generator[VideoFaces, None, list[Job]]:
    """Yield the rows that an attempt made; return the jobs that are left, after saying why."""
    attempt, node = outcome.attempt, outcome.attempt.node
    left = {job.video_id: job for job in attempt.shard.jobs}
    failure, is_the_nodes = outcome.failure, outcome.is_the_nodes
    collect(attempt.shard.jobs, attempt.folder, passing=not failure)
    if not failure:
        try:
            for row in shards.take_in(attempt.folder, attempt.shard, outcome.digests):
                del left[row.video_id]
                yield row
        except ShardError as error:
            failure, is_the_nodes = str(error), True
            shards.discard(attempt.folder)  # nothing of it can be relied on
    for row in shards.take_in_leftovers([attempt.folder], list(left.values())):
        del left[row.video_id]
        yield row
    if is_the_nodes and not node.left_out:
        node.left_out = failure
        _log.warning("%s gets no more shards: %s", node.name, failure)
    elif failure:
        _log.warning("%s: %s; %d video(s) of it are left", node.name, failure, len(left))
    got_on = len(left) < len(attempt.shard.jobs)
    if not got_on and not is_the_nodes and attempt.number >= _ATTEMPTS:
        names = ", ".join(str(job.path) for job in list(left.values())[:3])
        raise UnmaskError(
            f"Asked for the faces of {len(left)} video(s) ({names} ...); the process that cropped "
            f"them ended {attempt.number} times, the last time on {node.name}: {failure}. Nodes "
            "may be short of memory: give them more, or crop these with `--on here`. What is done "
            "is kept."
        )
    return list(left.values())


def _refuse_if_alone(present: Sequence[Node], alone_s: float, *, is_looking: bool) -> None:
    """Raises UnmaskError if no node can work, once that will not change."""
    if present and not is_looking and all(node.left_out for node in present):
        said = "; ".join(f"{node.name}: {node.left_out}" for node in present)
        raise UnmaskError(f"Asked for nodes to crop on; none can work. {said}")
    if alone_s > _ALONE_S:
        raise UnmaskError(
            f"Asked for nodes to crop on; there has been none for {_ALONE_S:g} s. Start some (`ray "
            "start --address=HOST:PORT`), then type the same again: what is done is kept."
        )
