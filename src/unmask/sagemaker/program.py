"""How a job's program ends: where it fails, SageMaker is told why."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unmask.errors import UnmaskError

# Files in a job's output, of which SageMaker shows the first 1024 characters:
# https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
TRAINING = "failure"
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
PROCESSING = "message"


@contextmanager
def telling(base: Path, *names: str) -> Iterator[None]:
    """Write why the program fails to files of base/output, the reason first, and end it.

    Raises:
        SystemExit: what the job asks for can't be done: an UnmaskError, whose line is said.
        Exception: any other failure, as it was raised; its traceback is written, too.
    """
    try:
        yield
    except UnmaskError as error:
        _write(base, names, str(error))
        sys.exit(f"error: {error}")
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error))
        _write(base, names, f"{reason}\n{traceback.format_exc()}")
        raise


def _write(base: Path, names: tuple[str, ...], failure: str) -> None:
    (base / "output").mkdir(parents=True, exist_ok=True)
    for name in names:
        (base / "output" / name).write_text(failure, encoding="utf-8", errors="backslashreplace")
