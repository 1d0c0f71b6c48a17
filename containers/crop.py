"""The program of a cropping job: videos by content to crops, each result uploaded as it is made.

A Processing job has its inputs and its output below /opt/ml/processing, a training job (for spare
capacity) below /opt/ml/input/data and /opt/ml/checkpoints:
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

import logging
import os
import signal
import sys
import traceback
from pathlib import Path

from unmask.cli import common
from unmask.errors import UnmaskError
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.sagemaker import crop_contract, crop_work

logger = logging.getLogger("unmask.job")

INTERRUPTED = 128 + signal.SIGTERM  # the exit code, as a shell would say it
SAID_EVERY = 50  # videos


def main(base: Path, load_detector: LoadDetector = detector_of_worker) -> None:
    """Crop what the job's folders ask for.

    Raises:
        UnmaskError: the job can't be done.
    """
    is_processing = (base / "processing").is_dir()
    inputs = base / (
        crop_contract.PROCESSING_INPUTS if is_processing else crop_contract.TRAINING_INPUTS
    )
    output = base / (
        crop_contract.PROCESSING_OUTPUT if is_processing else crop_contract.TRAINING_OUTPUT
    )
    work = crop_contract.read_work_file(inputs / crop_contract.ASKED / crop_contract.ASKED_NAME)
    rows = crop_work.crop(
        work, inputs, output, base / "unmask-crop",
        workers=common.workers(), load_detector=load_detector,
    )  # fmt: skip
    done = failed = 0
    for row in rows:
        done += 1
        if not row.key:
            failed += 1
            logger.warning("%s: %s (%s)", row.video_id, row.reason, row.detail)
        if done % SAID_EVERY == 0:
            logger.info("%d of %d videos cropped", done, len(work.videos))
    logger.info("cropped %d of %d videos, %d failed", done, len(work.videos), failed)


def run(base: Path, load_detector: LoadDetector = detector_of_worker) -> None:
    """Run main; where it fails, write why to where the service looks: its first 1024 characters."""
    common.set_up_logging()
    crop_work.end_on_sigterm()
    try:
        main(base, load_detector)
    except KeyboardInterrupt:
        logger.warning("SIGTERM came: the job ends; the next one goes on from what is uploaded")
        sys.exit(INTERRUPTED)
    except UnmaskError as error:
        _note(base, str(error))
        sys.exit(f"error: {error}")
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error))
        _note(base, f"{reason}\n{traceback.format_exc()}")
        raise


def _note(base: Path, failure: str) -> None:
    (base / "output").mkdir(parents=True, exist_ok=True)
    for name in ("message", "failure"):  # of a Processing job, and of a training job
        (base / "output" / name).write_text(failure, encoding="utf-8")


if __name__ == "__main__":
    run(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))
