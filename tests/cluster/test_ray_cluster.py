"""Three nodes of Ray on this machine crop a chunk: the bytes of one machine, whatever fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from painted import SETTINGS
from pydantic import ValidationError
from ray._private.utils import check_version_info
from ray.cluster_utils import Cluster
from shard_videos import ROOT, contents, copy_of, load_moody, make_project
from waiting import wait_until

from unmask import params
from unmask.cluster import ray_cluster
from unmask.faces import shards

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

VIDEOS = [*(f"v{number:02}" for number in range(12)), "crash", "hang"]
COMMAND = [sys.executable, str(ROOT / "tests/parts/crop_command.py"), "crop"]
PARTS = f"{ROOT / 'tests/parts'}{os.pathsep}{ROOT}"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with clips that crash and hang their decoder, cropped on this machine alone."""
    root = make_project(tmp_path_factory.mktemp("here"), VIDEOS)
    said = type_in(root)
    assert "chunk wild: 15 videos, 12 with a face, 3 without (1 crashed, 1 not_a_video, 1 t" in said
    return root


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster's head, which has no cores for shards, on ports of its own."""
    variables = {"RAY_worker_niceness": "0", "PYTHONPATH": PARTS}
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 80_000_000,
        },
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def add_node(nodes: Cluster) -> Iterator[Callable[..., Any]]:
    """Return what adds a node of one core with variables of its own; they go after the test."""
    added = []

    def add(**variables: str) -> Any:
        node = nodes.add_node(num_cpus=1, object_store_memory=80_000_000, env_vars=variables)
        added.append(node)
        return node

    yield add
    for node in added:
        if node in nodes.worker_nodes:
            nodes.remove_node(node, allow_graceful=False)


@pytest.fixture
def root(here: Path, tmp_path: Path) -> Path:
    """The same on a disk that nodes share; there is a module that none of them may import."""
    copy = copy_of(here, tmp_path / "shared")
    (copy / "av.py").write_text("raise RuntimeError('imported from a folder of videos')")
    return copy


def start(root: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    environment = os.environ | variables
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=root, env=environment, stderr=subprocess.PIPE, text=True
    )
    started.append(process)
    return process


started: "list[subprocess.Popen[str]]" = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def type_in(root: Path, *words: str, code: int = 0, **variables: str) -> str:
    """Return what the command said, with its exit code."""
    process = start(root, *words, **variables)
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def is_cropped(root: Path, count: int) -> Callable[[], bool]:
    """Say whether so many crops are there, in the chunk's folder or a shard's."""
    return lambda: (
        len([*root.glob("faces/wild/v*.mp4"), *root.glob(".crop_shards/*/*/v*")]) >= count
    )


def wait_for(
    what: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 240
) -> None:
    ends_s = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends_s
        time.sleep(0.05)


def test_a_node_and_the_driver_are_killed_and_the_next_run_goes_on(here, root, nodes, add_node):
    doomed, *_ = [add_node(SECONDS_A_SEARCH="0.3") for _ in range(3)]
    on_ray = ["--on", "ray", "--address", nodes.address, "--shard", "3"]
    first = start(root, *on_ray)
    wait_for(is_cropped(root, 3), first)
    first.send_signal(signal.SIGKILL)
    first.communicate()

    second = start(root, *on_ray)
    wait_for(is_cropped(root, 6), second)
    nodes.remove_node(doomed, allow_graceful=False)
    _, said = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert contents(root / "faces/wild") == contents(here / "faces/wild")
    assert re.search(r"wild: shard (\d) of \1 is there, by node ", said)
    assert "chunk wild: 15 videos, 12 with a face, 3 without (1 crashed, 1 not_a_video, 1 t" in said
    assert sorted(path.name for path in root.iterdir()) == ["av.py", "faces", "params.yaml", "raw"]
    wait_until(lambda: not any(works_in(each, root) for each in psutil.process_iter()))


def works_in(process: psutil.Process, root: Path) -> bool:
    """Say whether it crops there, on a node or as a worker process of one that does."""
    try:
        return Path(process.cwd()) == root
    except (psutil.Error, OSError):  # it has just ended, or is another user's
        return False


def test_nodes_that_can_t_work_are_left_out_by_name(here, root, nodes, add_node, tmp_path):
    """One has an older version of the package, one a full disk, and a third does the work."""
    old = tmp_path / "old"
    shutil.copytree(ROOT / "src/unmask", old / "unmask")
    with (old / "unmask/faces/tracks.py").open("a") as source:
        source.write("# as it was\n")
    add_node(PYTHONPATH=os.pathsep.join([str(old), PARTS]))
    add_node(DISK_OF_THIS_NODE="full")
    add_node()
    said = type_in(root, "--on", "ray", "--address", nodes.address, "--shard", "3")
    assert "gets no shards: it has the code of unmask" in said
    assert "gets no more shards: Asked to write into faces; the system said: No space left" in said
    assert contents(root / "faces/wild") == contents(here / "faces/wild")


def test_ctrl_c_stops_the_nodes_and_keeps_what_is_done(here, root, nodes, add_node):
    add_node(SECONDS_A_SEARCH="0.3")
    on_ray = ["--on", "ray", "--address", nodes.address, "--shard", "3"]
    process = start(root, *on_ray)
    wait_for(is_cropped(root, 4), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    [line] = [line for line in said.splitlines() if line.startswith("Error")]
    assert re.match(
        r"Error: Asked for crops; you stopped it after [1-9]\d* video\(s\)[.] They", line
    )
    done = {path.name for path in root.glob("faces/wild/v*.mp4")}
    kept = {path: path.stat().st_mtime_ns for path in root.glob("faces/wild/v*.mp4")}
    assert done
    type_in(root)
    assert contents(root / "faces/wild") == contents(here / "faces/wild")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_another_token_is_one_line():
    """Ray says InvalidAuthToken on stderr, tries for half a minute, and raises this."""
    said = ray_cluster._explain(
        ConnectionError("Failed to connect to Ray cluster at 10.0.0.5:6379")
    )
    assert said.startswith("somebody listens there who is no Ray head, or wants another token than")
    assert said.endswith("(Failed to connect to Ray cluster at 10.0.0.5:6379)")


def test_other_versions_are_one_line():
    """In the words in which Ray itself says so."""
    metadata = {"ray_version": "2.9.0", "python_version": "3.10.1"}
    with pytest.raises(RuntimeError, match="Version mismatch") as caught:
        check_version_info(metadata, "10.0.0.5:6379")
    said = ray_cluster._explain(caught.value)
    assert said.startswith(
        "The cluster was started with: Ray: 2.9.0 Python: 3.10.1 This process on"
    )
    assert said.endswith("Install the same Ray and the same Python on both sides.")


def test_a_node_that_sees_another_folder_is_left_out(tmp_path):
    """Its folder of that name is its own: the marker is not there, or is another run's."""
    here, there = tmp_path / "here", tmp_path / "there"
    nodes = ray_cluster.RayNodes(here, SETTINGS, load_moody)
    written = nodes._write_marker()
    assert nodes._write_marker() == written
    assert ray_cluster._probe(SETTINGS, str(nodes.marker), written)[0]
    other = ray_cluster.RayNodes(there, SETTINGS, load_moody)
    assert not ray_cluster._probe(SETTINGS, str(other.marker), written)[0]
    other._write_marker()
    is_shared, facts = ray_cluster._probe(SETTINGS, str(other.marker), written)
    assert not is_shared
    said = nodes._find_fault(is_shared=is_shared, there=facts)
    assert said.startswith(f"it does not see {here}, which this machine has just written to. Put")
    assert nodes._find_fault(is_shared=True, there=facts) == ""
    said = nodes._find_fault(is_shared=True, there=facts | {"av": "17.0.0", "numpy": "none"})
    assert re.match(r"it has av 17.0.0 in place of [0-9.]+, numpy none in place of", said)


def test_no_chunk_s_shards_lie_where_the_marker_does(tmp_path):
    """Chunks may be called anything that params.yaml takes, also `shared`."""
    nodes = ray_cluster.RayNodes(tmp_path, SETTINGS, load_moody)
    assert nodes.marker.parent == tmp_path / shards.SHARDS_DIR
    with pytest.raises(ValidationError, match="must be a plain name below data/chunks"):
        params.Params.model_validate(
            yaml.safe_load((ROOT / "params.yaml").read_text()) | {"chunks": [nodes.marker.name]}
        )


def test_drivers_in_one_checkout_have_a_marker_each(tmp_path):
    """One that ends takes its own away alone; what a killed one left is deleted by the next."""
    first, second = (ray_cluster.RayNodes(tmp_path, SETTINGS, load_moody) for _ in range(2))
    texts = first._write_marker(), second._write_marker()
    assert texts[0] != texts[1]
    first.close()
    assert not first.marker.exists()
    assert ray_cluster._probe(SETTINGS, str(second.marker), texts[1])[0]
    os.close(second._marker_lock)  # as when it is killed
    third = ray_cluster.RayNodes(tmp_path, SETTINGS, load_moody)
    third._write_marker()
    assert list(third.marker.parent.iterdir()) == [third.marker]
    third.close()
    assert not third.marker.parent.exists()


def test_nobody_at_the_address_is_one_line(root):
    for address, words in (
        ("127.0.0.1:1", "nothing answers there ([Errno 111] Connection refused). Start it"),
        ("ray://127.0.0.1:1", "an address is HOST:PORT, as `ray start --head` prints it"),
        ("head", "an address is HOST:PORT"),
    ):
        said = type_in(root, "--on", "ray", "--address", address, code=1)
        [line] = [line for line in said.splitlines() if line.startswith("Error")]
        assert f"Asked for the Ray cluster at {address}; {words}" in line
        assert "Traceback" not in said
