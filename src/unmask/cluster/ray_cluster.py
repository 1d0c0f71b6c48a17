"""A Ray cluster: its nodes, whether they are fit to crop, and shards as its tasks.

Only Ray's core is used, and none of its retries: which node has what is dealer's business, so that
a node which lost its disk, or has another version, gets no more.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

# Ray reports who uses it unless told otherwise; what it starts has this too.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# It makes workers of its own clusters nicer than `--on here` is.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.exceptions import AuthenticationError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unmask import params
from unmask.cluster.dealer import Attempt, Node, Outcome
from unmask.errors import UnmaskError
from unmask.faces import shards
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.faces.shards import Shard
from unmask.runtime.disk import create, delete_stale, new_name, writing
from unmask.runtime.scratch import private_folder

_log = logging.getLogger(__name__)

_CORES = 4  # of a shard at most: each takes a process, which loads its own detector
_CONNECT_S = 5.0
_LOOK_S = 1.0
_MARKER = "marker"  # the ending of its name
_STORE_BYTES = 80_000_000  # of a cluster of our own: results are digests
Facts = dict[str, str]


@contextmanager
def opened(
    address: str | None,
    root: Path,
    settings: params.Faces,
    *,
    cores: int,
    load_detector: LoadDetector = detector_of_worker,
) -> Iterator["RayNodes"]:
    """Give the nodes of a Ray cluster; without an address, of one on this machine alone.

    root is the folder that paths of videos and crops begin from, at the same place on all nodes.
    cores are those of a cluster of our own. At the end what still runs is stopped.

    Raises:
        UnmaskError: nothing answers at the address, or it does not take this process in.
        DiskError: root can't be written to.
    """
    if address is not None:
        _check_address(address)
    own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    nodes = RayNodes(root, settings, load_detector)
    # Nodes look for modules in the folder that Ray is started in, first of all: let it be empty.
    with private_folder("ray") as empty:
        try:
            with chdir(empty):
                ray.init(
                    address or "local", log_to_driver=False, logging_level=logging.ERROR,
                    configure_logging=False, **({} if address else own),
                )  # fmt: skip
        except (RuntimeError, ConnectionError, ValueError, RayError) as error:
            ray.shutdown()
            where = f"at {address}" if address else "of this machine"
            raise UnmaskError(f"Asked for the Ray cluster {where}; {_explain(error)}") from error
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.close()


def _check_address(address: str) -> None:
    """Raises UnmaskError unless somebody listens there: Ray would try for long, then abort."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise UnmaskError(
            f"Asked for the Ray cluster at {address}; an address is HOST:PORT, as `ray start "
            "--head` prints it. Type this command on a machine of the cluster, such as its head."
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UnmaskError(
            f"Asked for the Ray cluster at {address}; nothing answers there ({error}). Start it "
            "(`ray start --head`), or leave out --address for a cluster of this machine alone."
        ) from error


def _explain(error: Exception) -> str:
    words = " ".join(str(error).split())
    if "Version mismatch" in words:
        versions = words.partition("Version mismatch: ")[2]
        return f"{versions} Install the same Ray and the same Python on both sides."
    if isinstance(error, AuthenticationError | ConnectionError):
        return (
            "somebody listens there who is no Ray head, or wants another token than this process "
            "has. Correct the address, or copy ~/.ray/auth_token from the head "
            f"({words[:300]})"
        )
    return f"it did not take this process in: {words[:300]}"


class RayNodes:
    """The nodes of the cluster that this process is connected to: dealer.Nodes."""

    def __init__(self, root: Path, settings: params.Faces, load_detector: LoadDetector) -> None:
        # A file by which nodes show that they see root, of this driver alone: another one, which
        # crops another chunk here, may end first. No chunk has a name with such a beginning.
        self.marker = new_name(root / shards.SHARDS_DIR / "shared", _MARKER)
        self._marker_lock: int | None = None
        self._root, self._settings = root, settings
        self._load_detector = load_detector
        self._here = shards.this_machine(settings)
        self._nodes: dict[str, Node] = {}  # by Ray's id: those that were looked at
        self._probes: dict[Any, tuple[str, Node]] = {}
        self._running: dict[Any, Attempt] = {}

    def present(self) -> Sequence[Node]:
        """Return the nodes that are there now and were looked at; look at new ones."""
        alive = {each["NodeID"]: each for each in ray.nodes() if each["Alive"]}
        for gone in self._nodes.keys() - alive.keys():
            _log.warning("%s has left the cluster", self._nodes.pop(gone).name)
        looked_at = {ray_id for ray_id, _ in self._probes.values()} | self._nodes.keys()
        for ray_id in alive.keys() - looked_at:
            cores = int(alive[ray_id]["Resources"].get("CPU", 0))
            if cores:  # a head may be kept free of work
                name = f"node {alive[ray_id]['NodeManagerAddress']}-{ray_id[:6]}"
                task = _on(ray_id, _PROBE, 0).remote(
                    self._settings, str(self.marker), self._write_marker()
                )
                self._probes[task] = ray_id, Node(name, cores, min(_CORES, cores))
        return list(self._nodes.values())

    def is_looking(self) -> bool:
        """Say whether some nodes that are there have not been looked at yet."""
        return bool(self._probes)

    def _write_marker(self) -> str:
        if self._marker_lock is None:
            with writing(self.marker):
                self.marker.parent.mkdir(parents=True, exist_ok=True)
                delete_stale(self.marker.with_name("shared"), _MARKER)  # of killed drivers
                self._marker_lock = create(self.marker)
                os.write(self._marker_lock, secrets.token_hex(16).encode())
        return self.marker.read_text(encoding="utf-8")

    def close(self) -> None:
        """Take the marker away; folders of shards that a next run takes in stay."""
        if self._marker_lock is not None:
            os.close(self._marker_lock)
            self._marker_lock = None
            self.marker.unlink(missing_ok=True)
            with suppress(OSError):  # it holds other drivers' markers, or shards
                self.marker.parent.rmdir()

    def start(self, attempt: Attempt) -> None:
        """Have the attempt's node crop its shard."""
        [ray_id] = [each for each, node in self._nodes.items() if node is attempt.node]
        task = _on(ray_id, _CROP, attempt.node.shard_cores).remote(
            str(self._root),
            attempt.shard,
            str(attempt.folder),
            attempt.node.shard_cores,
            self._load_detector,
        )
        self._running[task] = attempt

    def wait(self) -> Sequence[Outcome]:
        """Return the attempts that have ended, after a second at the latest."""
        tasks = [*self._running, *self._probes]
        if not tasks:  # no node has joined yet
            time.sleep(_LOOK_S)
            return []
        ready, _ = ray.wait(tasks, num_returns=len(tasks), timeout=_LOOK_S)
        outcomes = []
        for task in ready:
            if task in self._probes:
                self._judge(task)
            else:
                outcomes.append(_outcome(task, self._running.pop(task)))
        return outcomes

    def stop(self) -> None:
        """Stop what still runs, with its worker processes."""
        for task in [*self._running, *self._probes]:
            with suppress(RayError, ValueError):
                ray.cancel(task, force=True)
        self._running.clear()
        self._probes.clear()

    def _judge(self, probe: Any) -> None:
        """Take in a node that was looked at; one that is not fit gets a reason."""
        ray_id, node = self._probes.pop(probe)
        try:
            is_shared, there = ray.get(probe)
        except RayError as error:
            node.left_out = f"this version of unmask does not run there ({_first_line(error)})"
        else:
            node.left_out = self._find_fault(is_shared=is_shared, there=there)
        if node.left_out:
            _log.warning("%s gets no shards: %s", node.name, node.left_out)
        self._nodes[ray_id] = node

    def _find_fault(self, *, is_shared: bool, there: Mapping[str, str]) -> str:
        other = [
            f"{what} {there.get(what, 'none')} in place of {own}"
            for what, own in self._here.items() if there.get(what) != own
        ]  # fmt: skip
        if other:
            return f"it has {', '.join(other)}: crops would differ. Install the same there."
        if not is_shared:
            return (
                f"it does not see {self._root}, which this machine has just "
                "written to. Put the checkout on a disk that all nodes mount at the same place."
            )
        return ""


def _outcome(task: Any, attempt: Attempt) -> Outcome:
    try:
        return Outcome(attempt, ray.get(task))
    except RayTaskError as error:  # what cropping raised there: the disk is full, say
        return Outcome(attempt, {}, _first_line(error.cause or error), is_the_nodes=True)
    except RayError as error:  # the node died, or the system killed the process
        return Outcome(attempt, {}, f"its process has ended ({type(error).__name__})")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (
        (lines[-1] if isinstance(error, RayTaskError) else lines[0])[:300] if lines else repr(error)
    )


# ---------------------------------------------------------------- on the nodes


def _on(ray_id: str, task: Any, cores: int) -> Any:
    """Return a task for that node alone."""
    strategy = NodeAffinitySchedulingStrategy(ray_id, soft=False)
    return task.options(scheduling_strategy=strategy, num_cpus=cores)


def _probe(settings: params.Faces, marker: str, written: str) -> tuple[bool, Facts]:
    path = Path(marker)
    is_shared = path.is_file() and path.read_text(encoding="utf-8") == written
    return is_shared, shards.this_machine(settings)


def _crop(
    root: str, shard: Shard, folder: str, workers: int, load_detector: LoadDetector
) -> Mapping[str, str]:
    os.chdir(root)  # rows name their videos from here
    return shards.crop(shard, Path(folder), workers=workers, load_detector=load_detector)


# Not as decorators: then Ray would send the functions' code, and other code than a node's own would
# be probed. A process each: a shard's changes its current folder.
_PROBE = ray.remote(max_retries=0, max_calls=1)(_probe)
_CROP = ray.remote(max_retries=0, max_calls=1)(_crop)
