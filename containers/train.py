"""The program of a training job: stages/train.py on SageMaker's folders, once on each instance.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html has the folders.
"""

import json
import logging
import os
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unmask.cli import common
from unmask.models import fit, frame_cache, train
from unmask.models.memory import check_memory
from unmask.models.settings import Settings
from unmask.runtime.disk import content_digest
from unmask.sagemaker import contract, program

logger = logging.getLogger("unmask.job")

PORT = "29500"  # of the first instance, where the others find it: torch's usual
SHARED_MEMORY_BYTES = 2**30  # loader workers hand clips over there; Docker gives 64 MB


def main(base: Path) -> None:
    """Train what the job's folders ask for; the model is in base/model.

    What an interrupted training goes on from is in base/checkpoints, replaced after every epoch.
    It stays: SageMaker keeps it in S3, for a job of the same key.

    Raises:
        UnmaskError: the job can't be done.
    """
    if Path("/proc/driver/nvidia").exists() and not torch.cuda.is_available():
        raise contract.JobError(
            "Asked to train on this machine's GPU; torch can't use it, most often as the driver is "
            "older than its CUDA (see the warning above). Choose another instance type."
        )
    config = base / "input/config"
    wanted = contract.read_hyperparameters(_own(_read_json(config / "hyperparameters.json")))
    nodes = join_cluster(_read_json(config / "resourceconfig.json"))
    # Beside the store, on the disk that SageMaker gives to data: links, not copies.
    data = base / "input/data"
    root = (data if os.access(data, os.W_OK) else base) / "checkout"
    if os.environ.get("LOCAL_RANK", "0") == "0":  # DDP's other processes here come later
        files = contract.read_listing(data / contract.LISTING / contract.LISTING_NAME)
        stores = [data / name for name in (contract.FILES, contract.REMOTE)]
        contract.lay_out(files, stores, root, workers=common.workers())
    os.chdir(root)  # params name files of a checkout, as model.weights does

    scratch, finished = base / "checkpoints/training", base / "checkpoints/model"
    cache = common.weights_cache()
    if available := common.memory_bytes():
        check_memory(wanted.clips, wanted.model, wanted.train, available_bytes=available)
    chunks = train.read_chunks(wanted.chunks, Path("raw"), Path("faces"), wanted.raw)
    sections = Settings.of(wanted)
    plan = fit.plan(chunks, sections, scratch=scratch, weights_cache=cache)
    if plan.key != wanted.key:
        raise contract.JobError(
            f"The job asks for the training {wanted.key}; with this image's code and libraries, "
            f"and the files that came, it is {plan.key}. Build the image from the commit that "
            "submits, with containers/build_and_push, and submit with the packages of its lock."
        )
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ.setdefault("UNMASK_TRACKER", "none")  # a database would end with the machine
    # What a place did not take waits in .tracking there, and comes back in output.tar.gz.
    notes = base / "output/data"
    with (
        frame_cache.opened(
            chunks,
            common.frame_cache_folder(root),
            most_bytes=common.frame_cache_bytes(),
            side_px=sections.faces.side_px,
            workers=common.workers(),
            is_filler=common.is_first_here(),
            show=partial(common.progress, label="frames"),
        ) as frames,
        common.open_tracker(notes, key=plan.key, resume=plan.epochs_done > 0) as tracker,
    ):
        train.train(
            chunks, sections, finished, tracker, plan=plan, scratch=scratch,
            workers=workers(), weights_cache=cache, nodes=nodes, frames=frames,
        )  # fmt: skip
    if not common.is_helper():
        hand_over(finished, base / "model")


def join_cluster(resources: Mapping[str, Any]) -> int:
    """Return how many instances train, once this one's environment says its place among them."""
    hosts = sorted(resources["hosts"])
    if len(hosts) > 1:
        os.environ["NODE_RANK"] = str(hosts.index(resources["current_host"]))
        os.environ["MASTER_ADDR"] = hosts[0]
        os.environ.setdefault("MASTER_PORT", PORT)
        if network := resources.get("network_interface_name"):
            # Of several networks both would take the first, which may lead nowhere.
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = network
    return len(hosts)


def workers() -> int:
    """Return how many processes may load clips."""
    shared_bytes = shutil.disk_usage("/dev/shm").total
    if shared_bytes < SHARED_MEMORY_BYTES:
        logger.info(
            "/dev/shm has %d MB: clips are loaded without processes of their own (docker run "
            "--shm-size)", shared_bytes // 2**20,
        )  # fmt: skip
        return 0
    return common.workers()


def hand_over(finished: Path, target: Path) -> None:
    """Move the model's files to the folder that SageMaker packs, with their SHA-256 beside them."""
    files = sorted(finished.iterdir())
    digests = {file.name: content_digest(file) for file in files}
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.move(file, target / file.name)
    (target / contract.DIGESTS).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _own(hyperparameters: Mapping[str, str]) -> dict[str, str]:
    """Return them without the toolkit's, such as sagemaker_region, which the SDK may add."""
    return {
        name: text for name, text in hyperparameters.items() if not name.startswith("sagemaker_")
    }


def run(base: Path) -> None:
    """Run main; where it fails, write why to where the service, and launch.py, look."""
    # How launch.py says that the job is interrupted. Not by SIGTERM: Lightning answers that, before
    # any handler of ours, by a broadcast to the other ranks, which may be in the midst of another.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    common.set_up_logging()
    with program.telling(base, program.TRAINING):
        main(base)


if __name__ == "__main__":
    run(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))
