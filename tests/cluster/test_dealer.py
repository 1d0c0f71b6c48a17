"""Shards dealt to machines that fail in all ways: here, machines are functions of this process."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from painted import SETTINGS, load_squares
from shard_videos import contents, make_project

from unmask.cluster import dealer
from unmask.cluster.dealer import Attempt, Node, Outcome, crop_on
from unmask.errors import UnmaskError
from unmask.faces import shards
from unmask.faces.crops import crop_chunk, find_videos

Crop = Callable[[Attempt], Outcome]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), [f"v{number}" for number in range(7)])


@pytest.fixture
def root(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, cropped as a whole in by_one_run."""
    shutil.copytree(project, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    videos = find_videos(Path("raw/wild/videos"))
    list(crop_chunk(videos, Path("by_one_run"), SETTINGS, workers=1, load_detector=load_squares))
    return tmp_path / "root"


class Machines:
    """Nodes that crop as soon as they are asked to, each in its own way."""

    def __init__(self, **crops: Crop) -> None:
        self.crops = crops
        self.nodes = {name: Node(name, cores=2, shard_cores=1) for name in crops}
        self.started: list[tuple[str, int]] = []
        self.most_at_once = 0
        self.stopped = 0
        self._running: list[Attempt] = []

    def present(self) -> Sequence[Node]:
        return list(self.nodes.values())

    def is_looking(self) -> bool:
        return False

    def start(self, attempt: Attempt) -> None:
        self.started.append((attempt.node.name, attempt.number))
        self._running.append(attempt)
        own = [each for each in self._running if each.node is attempt.node]
        self.most_at_once = max(self.most_at_once, len(own))

    def wait(self) -> Sequence[Outcome]:
        running, self._running = self._running, []
        return [self.crops[attempt.node.name](attempt) for attempt in running]

    def stop(self) -> None:
        self.stopped += 1


def well(attempt: Attempt) -> Outcome:
    digests = shards.crop(attempt.shard, attempt.folder, workers=1, load_detector=load_squares)
    return Outcome(attempt, digests)


def dies_after_the_first(attempt: Attempt) -> Outcome:
    """Crop one video of the shard; then the process is gone."""
    videos = [(job.video_id, job.path) for job in attempt.shard.jobs]
    rows = crop_chunk(videos, attempt.folder, SETTINGS, workers=1, load_detector=load_squares)
    next(rows)
    rows.close()
    return Outcome(attempt, {}, "its process has ended")


def has_no_disk(attempt: Attempt) -> Outcome:
    return Outcome(attempt, {}, "No space left on device", is_the_nodes=True)


def lies(attempt: Attempt) -> Outcome:
    """Say other digests than those of the crops that it leaves."""
    outcome = well(attempt)
    return Outcome(attempt, dict.fromkeys(outcome.digests, "0" * 64))


def crop_all(root: Path, machines: Machines) -> dict[str, str]:
    videos = find_videos(Path("raw/wild/videos"))
    rows = crop_chunk(
        videos, Path("faces/wild"), SETTINGS, workers=1,
        crop_missing=lambda jobs: crop_on(machines, jobs, root, shard_videos=2),
    )  # fmt: skip
    assert sorted(row.video_id for row in rows) == [video_id for video_id, _ in videos]
    assert machines.stopped == 1
    assert not (root / ".crop_shards/wild").exists()
    return contents(root / "faces/wild")


def test_all_shards_come_back_and_no_node_gets_more_than_its_cores(root):
    machines = Machines(a=well)
    assert crop_all(root, machines) == contents(root / "by_one_run")
    assert machines.started == [("a", 1)] * 4
    assert machines.most_at_once == 2


def test_what_a_dead_process_had_done_is_not_done_again(root):
    """Each of a shard's two videos costs the first node a process: then nothing is left of it."""
    machines = Machines(a=dies_after_the_first)
    assert crop_all(root, machines) == contents(root / "by_one_run")
    assert machines.started == [("a", 1)] * 8


@pytest.mark.parametrize(("fails", "said"), [(has_no_disk, "No space left"), (lies, "the crop")])
def test_a_node_that_fails_gets_no_more(root, fails, said, caplog):
    machines = Machines(bad=fails, good=well)
    assert crop_all(root, machines) == contents(root / "by_one_run")
    assert [name for name, _ in machines.started].count("bad") == 2  # those that it had at once
    [warning] = [words for words in caplog.messages if "gets no more shards" in words]
    assert warning.startswith("bad gets no more shards: ")
    assert said in warning


def test_where_no_node_can_work_each_says_why(root):
    machines = Machines(a=has_no_disk, b=has_no_disk)
    with pytest.raises(UnmaskError, match=r"none can work[.] a: No space left on device; b: No sp"):
        crop_all(root, machines)
    assert machines.stopped == 1


class SlowToShow(Machines):
    """The first node is looked at a while before the others are."""

    looks = 0

    def present(self) -> Sequence[Node]:
        self.looks += 1
        return super().present()[: None if self.looks > 3 else 1]

    def is_looking(self) -> bool:
        return self.looks <= 3


def test_nodes_that_are_still_looked_at_are_waited_for(root):
    """The first one is known not to be fit before anything is known of the second."""
    machines = SlowToShow(bad=has_no_disk, good=well)
    machines.nodes["bad"].left_out = "it has av 17.0.0 in place of 18.0.0"
    assert crop_all(root, machines) == contents(root / "by_one_run")
    assert {name for name, _ in machines.started} == {"good"}


def test_a_cluster_without_nodes_is_not_waited_for_forever(root, monkeypatch):
    monkeypatch.setattr(dealer, "_ALONE_S", 0.2)
    with pytest.raises(UnmaskError, match=r"none for 0.2 s. Start some"):
        crop_all(root, Machines())


def test_a_shard_that_ends_its_process_again_and_again_ends_the_call_by_name(root):
    machines = Machines(a=lambda attempt: Outcome(attempt, {}, "its process has ended"))
    with pytest.raises(UnmaskError, match=r"cropped them ended 3 times, the last time on a: its"):
        crop_all(root, machines)
    assert max(number for _, number in machines.started) == 3


def test_nodes_that_can_not_work_are_no_attempts_at_a_shard(root):
    """Two nodes have no disk; on the third the process ends once, which is no reason to give up."""
    ended = []

    def ends_once(attempt: Attempt) -> Outcome:
        if attempt.shard.name in ended:
            return well(attempt)
        ended.append(attempt.shard.name)
        return Outcome(attempt, {}, "its process has ended")

    machines = OneAfterAnother(a=has_no_disk, b=has_no_disk, c=ends_once)
    assert crop_all(root, machines) == contents(root / "by_one_run")
    assert max(number for _, number in machines.started) == 2


class OneAfterAnother(Machines):
    """A node joins once those before it are left out."""

    def present(self) -> Sequence[Node]:
        nodes = super().present()
        return nodes[: sum(bool(node.left_out) for node in nodes) + 1]

    def is_looking(self) -> bool:
        return len(self.present()) < len(self.nodes)


def test_what_an_interrupted_call_left_is_taken_in_by_the_next(root):
    machines = Machines(a=dies_after_the_first)
    videos = find_videos(Path("raw/wild/videos"))
    rows = crop_chunk(
        videos, Path("faces/wild"), SETTINGS, workers=1,
        crop_missing=lambda jobs: crop_on(machines, jobs, root, shard_videos=9),
    )  # fmt: skip
    next(rows)
    rows.close()
    assert machines.stopped == 1
    again = Machines(a=well)
    assert crop_all(root, again) == contents(root / "by_one_run")
    assert len(again.started) < 5
