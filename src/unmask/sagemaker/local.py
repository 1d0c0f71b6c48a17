"""The job's image in a container of this machine: the SDK's local mode."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from unmask.sagemaker import contract, fetch
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.submit import Training, import_sdk
from unmask.storage.blobs import StoredFile
from unmask.tracking.tracker import environment

# The SDK would report how it is used.
_CONFIG = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}


def train_locally(
    training: Training,
    files: Sequence[StoredFile],
    model_dir: Path,
    *,
    image: str,
    variables: Mapping[str, str],
    on_gpu: bool,
) -> None:
    """Train in the image, on links to the files, and put the model in the place of model_dir.

    Raises:
        JobError: there is no such image, no container engine, or the training failed.
    """
    _check_image(image)
    # A container of Docker's writes as root: what of its files can't be deleted stays.
    with tempfile.TemporaryDirectory(
        prefix=".unmask-job-", dir=training.root, ignore_cleanup_errors=True
    ) as made:
        folder = Path(made)  # nobody else may look into it
        store, listing = folder / contract.FILES, folder / contract.LISTING
        for file in files:
            _link(training.root / file.path, store / file.stored)
        listing.mkdir()
        (listing / contract.LISTING_NAME).write_text(contract.listing_text(files), encoding="utf-8")
        packed = _run(training, folder, image=image, variables=variables, on_gpu=on_gpu)
        fetch.take_in(packed, model_dir, key=training.key)


def _check_image(image: str) -> None:
    # The SDK would fetch one that is missing from ECR, and then hand our keys to the container.
    remedy = "Build it (containers/build_and_push), or `docker pull` it"
    try:
        found = subprocess.run(
            ["docker", "images", "--quiet", image], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise JobError(
            f"Asked to train in {image} on this machine; docker did not answer ({error}). Start "
            "docker, or podman with its docker command."
        ) from error
    if not found.stdout.strip():
        raise JobError(f"Asked to train in {image} on this machine; it is not here. {remedy}.")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # two files of one content
        return
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def _run(
    training: Training, folder: Path, *, image: str, variables: Mapping[str, str], on_gpu: bool
) -> Path:
    """Return the archive that the container left."""
    root, config = folder / "container", folder / "config.yaml"
    (root / "model").mkdir(parents=True)  # ours, so that what root puts there can be deleted
    config.write_text(json.dumps(_CONFIG), encoding="utf-8")  # JSON is YAML
    sdk = import_sdk()
    from sagemaker.core.training import configs

    with environment({"SAGEMAKER_USER_CONFIG_OVERRIDE": str(config)}):
        trainer = sdk.ModelTrainer(
            # Without a session: with one the SDK writes our keys into its compose file.
            training_mode=sdk.Mode.LOCAL_CONTAINER,
            training_image=image,
            base_job_name="unmask-local",
            compute=configs.Compute(
                instance_type="local_gpu" if on_gpu else "local_cpu", instance_count=1
            ),
            input_data_config=[
                configs.InputData(channel_name=name, data_source=str(folder / name))
                for name in (contract.FILES, contract.LISTING)
            ],
            hyperparameters=training.hyperparameters,
            environment=dict(variables),
            local_container_root=str(root),
        )
        try:
            trainer.train(wait=True, logs=True)
        except (RuntimeError, ImportError, OSError) as error:
            raise JobError(
                f"Asked to train in {image} on this machine; it ended with: {error}. What it said "
                "stands above."
            ) from error
    packed = root / "compressed_artifacts/model.tar.gz"
    if not packed.is_file():
        raise JobError(
            f"Asked for the model that {image} made; it left none. What it said stands above."
        )
    return packed
