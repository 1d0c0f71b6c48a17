"""What a shard is cropped by on a node: cores alone, or a GPU that searches for its workers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from unmask import extras, params
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.faces.shared_detector import best_detector

OpenDetector = Callable[[params.Detect], AbstractContextManager[LoadDetector]]
_CORES = 4  # of a shard at most: each takes a process, which loads its own detector


@dataclass(frozen=True)
class Hardware:
    """How a node's cores and GPUs are shared among shards. It travels to nodes."""

    gpus: int  # of a shard: none, or one
    open_detector: OpenDetector
    fault: Callable[[], str]  # asked on a node: why it can't be used, or ""

    def shards_on(self, cores: int, gpus: int) -> tuple[int, int]:
        """Return how many cores a node has for shards in all, and how many one shard takes.

        A GPU's shard takes the GPU's part of the cores: they decode for it.

        >>> of_cores().shards_on(6, 1)
        (6, 4)
        >>> of_gpus().shards_on(17, 2)
        (16, 8)
        >>> of_gpus().shards_on(8, 0)
        (0, 8)
        """
        if not self.gpus:
            return cores, min(_CORES, cores)
        each = max(1, cores // max(1, gpus))
        return min(cores, each * gpus), each


def of_cores(load_detector: LoadDetector = detector_of_worker) -> Hardware:
    """Return the use of cores alone: each worker process loads a detector."""
    return Hardware(0, partial(_of_worker, load_detector), _no_fault)


def of_gpus() -> Hardware:
    """Return the use of GPUs: a shard has one, which searches for all of its worker processes."""
    return Hardware(1, partial(best_detector, on_gpu=True), _fault_of_gpu)


@contextmanager
def _of_worker(load_detector: LoadDetector, _: params.Detect) -> Iterator[LoadDetector]:
    yield load_detector


def _no_fault() -> str:
    return ""


def _fault_of_gpu() -> str:
    if lacking := extras.missing(["train"]):
        return f"it has no {lacking['train']}, which its GPU needs: pip install 'unmask[ray,train]'"
    import torch  # takes seconds, which nodes without a GPU need not wait

    if not torch.cuda.is_available():
        return "it has told Ray of a GPU, which torch can't use there: install a driver that it can"
    return ""
