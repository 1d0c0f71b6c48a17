"""What the doors share: words to stderr, one line for a user's mistake, the way to MLflow."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from unmask import tracking
from unmask.errors import UnmaskError

T = TypeVar("T")


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main; an UnmaskError becomes one line on stderr and exit code 1."""
    set_up_logging()
    try:
        main()
    except UnmaskError as error:
        sys.exit(f"error: {error}")


def set_up_logging() -> None:
    """Send INFO lines of this project, and warnings of others, to stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unmask").setLevel(logging.INFO)
    # Lightning says which devices there are, and advertises.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def progress(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Yield the items under a progress bar on stderr."""
    # Where stderr is a file a line every ten seconds is enough.
    pause = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(items, total=total, desc=label, mininterval=pause, dynamic_ncols=True)


def workers() -> int:
    """Return how many processes to use: the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_tracker(root: Path, *, run_id: str | None = None) -> tracking.Tracker:
    """Return the tracker that the environment names.

    MLFLOW_TRACKING_URI says where runs go, mlflow.db in the root if it is not set;
    UNMASK_TRACKING=none turns tracking off. DVC_EXP_NAME, set by `dvc exp run`, names the run.
    """
    is_helper = os.environ.get("LOCAL_RANK", "0") != "0"  # DDP runs the script once a GPU
    if is_helper or os.environ.get("UNMASK_TRACKING") == "none":
        return tracking.NullTracker()
    tracker = tracking.open_run(
        uri=tracking.default_uri(os.environ, root),
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "unmask"),
        run_name=os.environ.get("DVC_EXP_NAME"),
        run_id=run_id,
    )
    tracker.log_tags({**tracking.source_tags(root), **tracking.lock_digests(root)})
    return tracker


def weights_cache() -> Path:
    """Return where weights fetched from the web are kept, for all checkouts of this user."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "unmask"
