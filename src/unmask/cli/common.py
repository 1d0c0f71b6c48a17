"""What commands and stages share: logging, progress bars, error lines, trackers and jobs."""

import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from unmask import extras, params
from unmask.engine.cores import usable_cores
from unmask.errors import UnmaskError
from unmask.runtime import terminal
from unmask.runtime.plain_text import shown_message
from unmask.tracking import mlflow_client, mlflow_tracker, offline_queue, provenance, wandb_tracker
from unmask.tracking import tracker as tracking

if TYPE_CHECKING:
    from unmask.sagemaker.checks import Account
    from unmask.sagemaker.config import JobConfig
    from unmask.sagemaker.jobs import Job
    from unmask.sagemaker.submit import Submission, Training

T = TypeVar("T")
log = logging.getLogger(__name__)

TRACKERS = ("mlflow", "wandb", "none")
PLACES = ("here", "sagemaker")  # to train in
OFFLINE_QUEUES = ".tracking"  # in Git's and DVC's list of what they ignore


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main; an UnmaskError becomes one line on stderr and exit code 1."""
    set_up_logging()
    try:
        main()
    except UnmaskError as error:
        sys.exit(f"error: {shown_message(str(error))}")
    except ModuleNotFoundError as error:
        if (missing := extras.explain(f"The stage {Path(sys.argv[0]).stem}", error)) is None:
            raise
        sys.exit(f"error: {missing}")


def set_up_logging() -> None:
    """Send INFO lines of this project, and warnings of others, to stderr."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(terminal.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[shown])
    terminal.show_crashes()
    logging.getLogger("unmask").setLevel(logging.INFO)
    # Lightning says which devices there are, and advertises.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def progress(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Yield the items under a progress bar on stderr."""
    # Where stderr is a file a line every ten seconds is enough.
    pause = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(items, total=total, desc=label, mininterval=pause, dynamic_ncols=True)


def above_bar() -> AbstractContextManager[None]:
    """Take a progress bar on the terminal away while something else is printed."""
    return tqdm.external_write_mode(file=sys.stdout)


def workers() -> int:
    """Return how many processes to use: the cores this process may run on."""
    return usable_cores()


def has_gpu() -> bool:
    """Say whether there is an NVIDIA GPU that torch can use."""
    if not Path("/proc/driver/nvidia").exists() or extras.missing(["train"]):
        return False
    import torch  # takes seconds, which machines without a GPU need not wait

    return torch.cuda.is_available()


def memory_bytes() -> int | None:
    """Return this machine's memory; None where training is done by a GPU or elsewhere."""
    if _place() != "here" or Path("/proc/driver/nvidia").exists() or not hasattr(os, "sysconf"):
        return None
    memory: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory


def is_helper() -> bool:
    """Say whether this is one of DDP's further processes, not the first (one a GPU or node)."""
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "NODE_RANK"))


def is_first_here() -> bool:
    """Say whether this is a machine's first process of a training, which starts the others."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def open_tracker(
    root: Path,
    *,
    key: str | None = None,
    resume: bool = False,
    parent: str | None = None,
    run_name: str | None = None,
) -> tracking.Tracker:
    """Return the run of that key in the place that the environment names.

    A new run begins; with resume the newest one of the key goes on if there is one. Without a key
    it gets one that nobody has. parent is the key of the run that it is nested in; run_name stands
    behind DVC_EXP_NAME in its name. UNMASK_TRACKER says what keeps it: mlflow (where
    MLFLOW_TRACKING_URI says, else in mlflow.db in the root), wandb or none. DVC_EXP_NAME, set by
    `dvc exp run`, names the run; DVC_STAGE, set by DVC, says what it reads. What could not be sent
    waits in .tracking in the root. Root is the checkout that lasts, not DVC's copy of it.

    Raises:
        TrackingError: that can never work as things are.
    """
    tracker = _tracker(root, key, resume=resume, parent=parent, run_name=run_name)
    digests = provenance.lock_digests(root, stage=os.environ.get("DVC_STAGE"))
    tracker.log_tags({**provenance.source_tags(root), **digests})
    return tracker


def check_tracker(who: str) -> None:
    """Pass if the tracker that UNMASK_TRACKER names is installed.

    Raises:
        MissingExtraError: it is not.
        TrackingError: there is no such tracker.
    """
    if (chosen := _chosen_tracker()) != "none":
        extras.check(who, chosen)


def _chosen_tracker() -> str:
    chosen = os.environ.get("UNMASK_TRACKER") or "mlflow"
    if chosen not in TRACKERS:
        raise tracking.TrackingError(
            f"UNMASK_TRACKER is {chosen!r}; known are {', '.join(TRACKERS)}. Set it to one of them."
        )
    return chosen


def _tracker(
    root: Path,
    key: str | None,
    *,
    resume: bool,
    adds_only: bool = False,
    parent: str | None = None,
    run_name: str | None = None,
) -> tracking.Tracker:
    key = key or uuid.uuid4().hex[:16]
    chosen = _chosen_tracker()
    if is_helper() or chosen == "none":
        return tracking.NullTracker(key)
    lasting = provenance.main_checkout(root)
    experiment_name = os.environ.get("DVC_EXP_NAME")
    run_name = " ".join(filter(None, (experiment_name, run_name))) or None
    tracker: tracking.Tracker
    if chosen == "wandb":
        tracker = wandb_tracker.open_run(lasting, key=key, run_name=run_name, parent=parent)
    else:
        tracker = mlflow_tracker.open_run(
            uri=mlflow_client.default_uri(os.environ, lasting),
            experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "unmask"),
            run_name=run_name, key=key, resume=resume, queues=lasting / OFFLINE_QUEUES,
            adds_only=adds_only, parent=parent,
        )  # fmt: skip
    return tracker


def register_model(root: Path, model_dir: Path, alias: str, *, key: str | None) -> None:
    """Point the alias at the model, in the run of that key, which keeps its status.

    Raises:
        TrackingError: no model can have that alias, the model was not evaluated, or the tracker
            keeps nothing or can never work.
    """
    _check_alias(alias)
    with _tracker(root, key, resume=True, adds_only=True) as tracker:
        tracker.register_model(model_dir, alias)


def registration_request() -> str | None:
    """Return the alias that UNMASK_REGISTER asks for; None where nothing is to be registered.

    Raises:
        TrackingError: no model can have that alias, or UNMASK_TRACKER is none.
    """
    alias = os.environ.get("UNMASK_REGISTER")
    return _check_alias(alias) if alias else None


def _check_alias(alias: str) -> str:
    if os.environ.get("UNMASK_TRACKER") == "none":
        raise tracking.TrackingError(
            f"Asked to register the model as {alias}; UNMASK_TRACKER is none, which keeps nothing. "
            "Unset it, or don't ask for that (UNMASK_REGISTER, --register)."
        )
    return tracking.checked_alias(alias)


def upload_runs(root: Path) -> Iterator[str]:
    """Send what waits in .tracking to MLflow, and yield a line for each run.

    It goes where MLFLOW_TRACKING_URI says; where that is not set, to where the run was meant to go.

    Raises:
        TrackingError: some of it still waits.
    """
    return offline_queue.upload(
        provenance.main_checkout(root) / OFFLINE_QUEUES,
        lambda place: mlflow_tracker.MlflowSender(os.environ.get("MLFLOW_TRACKING_URI") or place),
    )


def weights_cache() -> Path:
    """Return where weights fetched from the web are kept, for all checkouts of this user."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "unmask"


# ---------------------------------------------------------------- decoded frames


def frame_cache_folder(root: Path) -> Path:
    """Return where decoded frames are kept: UNMASK_FRAME_CACHE_DIR, or .frames in the root."""
    return Path(os.environ.get("UNMASK_FRAME_CACHE_DIR") or root / ".frames")


def frame_cache_bytes() -> int:
    """Return how much decoded frames may take on the disk, as UNMASK_FRAME_CACHE says; 0 is off.

    Raises:
        UnmaskError: that is no size.
    """
    said = os.environ.get("UNMASK_FRAME_CACHE") or "0"
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB|TB)|0", said.strip(), re.I | re.ASCII)
    if found is None:
        raise UnmaskError(
            f"UNMASK_FRAME_CACHE is {said!r}, which is no size. Set it to what decoded frames may "
            "take on the disk, such as 500MB, 40GB or 1.5TB, or to 0 for none."
        )
    number, unit = found.groups(default="0")
    return int(float(number) * {"0": 0, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit.upper()])


# ---------------------------------------------------------------- training elsewhere


def train_elsewhere(root: Path, model: Path, key: str) -> bool:
    """Train where UNMASK_TRAIN_ON says, and return whether that is elsewhere.

    If so the model is there afterwards. A job of that key that runs or has ended is taken for it:
    a wait that was interrupted goes on.

    Raises:
        UnmaskError: no such place is known, or the job can't be had.
    """
    if _place() == "here":
        return False
    from unmask.sagemaker import checks, config, jobs, submit

    job_config = config.read_config(os.environ, {})
    account = checks.sign_in(job_config.region)
    training = submit.Training(root, params.load(root / "params.yaml"), key)
    found = send_training(account, training, job_config)
    found = await_job(account, found, job_config)
    jobs.fetch(account, found, model)
    if not submit.reports(os.environ):
        with open_tracker(root, key=key, resume=True) as tracker:
            submit.report(tracker, training, model)
    return True


def _place() -> str:
    place = os.environ.get("UNMASK_TRAIN_ON") or "here"
    if place not in PLACES:
        raise UnmaskError(
            f"UNMASK_TRAIN_ON is {place!r}; known are {', '.join(PLACES)}. Set it to one of them."
        )
    return place


def send_training(account: "Account", training: "Training", job_config: "JobConfig") -> "Job":
    """Return the training's job: one that stands, or else a new one, after sending its files."""
    from unmask.sagemaker import jobs, submit

    standing = jobs.standing(account, training.key, poll_s=job_config.poll_s, sleep=time.sleep)
    if standing:
        log.info("%s is of the same params, data and code: no second job", standing.name)
        return standing
    submission = submit.prepare(account, training, job_config, variables=os.environ)
    return _start(submission)


def _start(submission: "Submission") -> "Job":
    sent = submission.send_files()
    try:
        for _ in progress(sent, total=len(submission.unsent), label="upload"):
            pass
    except KeyboardInterrupt as interrupt:
        raise UnmaskError(
            "Asked to send a job's files; you stopped it, and no job was started. Type the same "
            "again: what has arrived is kept."
        ) from interrupt
    started = submission.start()
    log.info("started %s", started.name)
    return started


def await_job(account: "Account", found: "Job", job_config: "JobConfig") -> "Job":
    """Return the job when it has completed; Ctrl-C asks whether it shall stop."""
    from unmask.sagemaker import jobs

    return jobs.await_end(
        account, found.name, poll_s=job_config.poll_s, sleep=time.sleep, ask_to_stop=ask_to_stop
    )


def ask_to_stop() -> bool:
    """Say whether a job shall stop; where nobody can answer, or somebody won't, it goes on."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write("\nStop the job? It costs money while it runs. [s]top, [l]eave it running: ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip().lower().startswith("s")
    except KeyboardInterrupt:
        return False
