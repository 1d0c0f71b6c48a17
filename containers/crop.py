"""The program of a cropping job: videos by content to crops, each result uploaded as it is made.

A Processing job has its inputs and its output below /opt/ml/processing, a training job (for spare
capacity) below /opt/ml/input/data and /opt/ml/checkpoints:
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

import logging
import os
import signal
import sys
from pathlib import Path

from unmask.cli import common
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.sagemaker import crop_contract, crop_work, program

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
    """Run main; where it fails, write why to where the service looks."""
    common.set_up_logging()
    crop_work.end_on_sigterm()
    try:
        with program.telling(base, program.PROCESSING, program.TRAINING):
            main(base, load_detector)
    except KeyboardInterrupt:
        logger.warning("SIGTERM came: the job ends; the next one goes on from what is uploaded")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))
