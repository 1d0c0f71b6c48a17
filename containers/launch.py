"""What SageMaker's training toolkit calls: it runs the program, and lets it know of SIGTERM.

By itself the toolkit starts the program and waits; it keeps the signal that SageMaker sends before
it takes a spot instance away or stops a job, and its failure file does not say what went wrong
(aws/sagemaker-training-toolkit, issues 125 and 173).
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sagemaker_training import environment, errors

logger = logging.getLogger(__name__)

INTERRUPTED = 128 + signal.SIGTERM  # the exit code, as a shell would say it
GRACE_S = 60  # SageMaker kills the container 120 s after its signal
REPEAT_S = 2


class Interrupted(Exception):  # noqa: N818  # not an error: the job was asked to end
    """The job was asked to end before it was done; the toolkit exits with errno."""

    errno = INTERRUPTED


def main() -> None:
    """Run the program that SAGEMAKER_PROGRAM names.

    Raises:
        Interrupted: SIGTERM ended it: the last whole epoch is in the checkpoints' folder.
        ClientError: it failed; says why. The toolkit writes that to the failure file and exits 1.
    """
    failure = Path(environment.output_dir) / "failure"
    failure.unlink(missing_ok=True)
    # Absolute: the program changes folders, and Lightning starts it again for each further GPU.
    program = Path(os.environ["SAGEMAKER_SUBMIT_DIRECTORY"], os.environ["SAGEMAKER_PROGRAM"])
    code, interrupted = supervise([sys.executable, str(program.resolve())], grace_s=GRACE_S)
    if interrupted and code:
        raise Interrupted(
            "Interrupted by SIGTERM. The next job with these checkpoints goes on from the last "
            "whole epoch."
        )
    if code:
        raise errors.ClientError(failure.read_text() if failure.exists() else _last_words(code))


def supervise(command: list[str], *, grace_s: float) -> tuple[int, bool]:
    """Run the command; return its exit code, and whether SIGTERM came.

    SIGTERM becomes SIGINT for the program, which Python and Lightning end on in an orderly way;
    what is still there after grace_s, waiting for another instance perhaps, is killed.
    """
    came, ended = threading.Event(), threading.Event()
    # A session of its own: its loaders and its helpers on other GPUs are killed with it.
    program = subprocess.Popen(command, start_new_session=True)

    def end() -> None:
        last_s = time.monotonic() + grace_s
        while time.monotonic() < last_s:
            # More than once: Python swallows what is raised in a __del__, as a loader's.
            program.send_signal(signal.SIGINT)
            if ended.wait(min(REPEAT_S, grace_s)):
                return
        os.killpg(program.pid, signal.SIGKILL)

    def forward(*_: object) -> None:
        if not came.is_set():
            came.set()
            logger.warning("SIGTERM came: the training ends")
            threading.Thread(target=end, daemon=True).start()

    before = signal.signal(signal.SIGTERM, forward)
    try:
        return program.wait(), came.is_set()
    finally:
        ended.set()
        signal.signal(signal.SIGTERM, before)


def _last_words(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " The machine had too little memory, perhaps." if -code == signal.SIGKILL else ""
        return f"The training was ended by {name}.{hint} Its log says how far it came."
    return f"The training ended with exit code {code}. Its log says why."
