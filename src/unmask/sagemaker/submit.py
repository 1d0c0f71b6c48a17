"""Training as a job on SageMaker: which training, what it needs, and the request for it."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unmask.params import Params
from unmask.runtime import addresses
from unmask.sagemaker import contract, inputs
from unmask.sagemaker.checks import (
    Account,
    bucket_region,
    check_bucket,
    check_image,
    check_quota,
    check_role,
)
from unmask.sagemaker.config import JobConfig
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.jobs import Job, describe, latest, next_name
from unmask.storage import blobs
from unmask.storage.blobs import Store, StoredFile
from unmask.storage.s3 import asking, code_of
from unmask.tracking import provenance
from unmask.tracking.tracker import Tracker, environment

log = logging.getLogger(__name__)

CHECKPOINTS = "/opt/ml/checkpoints"  # SageMaker keeps this folder and the prefix in S3 alike
_UPLOADS = 8  # at a time
_SIGN_IN = ("USERNAME", "PASSWORD", "TOKEN")  # what a server asks for, and a job is not given


@dataclass(frozen=True)
class Training:
    """Which training is asked for, and the checkout that it is asked from."""

    root: Path
    settings: Params
    key: str

    @property
    def hyperparameters(self) -> dict[str, str]:
        """Return what the job's request takes of the params."""
        return contract.hyperparameters(contract.job_params(self.settings, self.key))


def find_training(root: Path, settings: Params, *, weights_cache: Path) -> Training:
    """Return the training that `dvc repro` would do next in the checkout.

    Raises:
        UnmaskError: it can't be trained as things are, here or elsewhere.
    """
    from unmask.models import fit, train  # torch takes seconds
    from unmask.models.settings import Settings

    chunks = train.read_chunks(settings.chunks, root / "raw", root / "faces", settings.raw)
    sections = Settings.of(settings)
    plan = fit.plan(chunks, sections, scratch=root / ".model.training", weights_cache=weights_cache)
    return Training(root, settings, plan.key)


# ---------------------------------------------------------------- a new job


@dataclass(frozen=True)
class Submission:
    """A job that can be started once its files are in the store."""

    account: Account
    training: Training
    job_config: JobConfig
    store: Store
    unsent: list[StoredFile]
    texts: dict[str, str]  # names in the job's bucket, and what belongs there
    request: dict[str, Any]  # of CreateTrainingJob

    def send_files(self) -> Iterator[StoredFile]:
        """Yield each file as it is in the store."""
        with asking(f"to take a file into {self.store.uri}", "s3:PutObject"):
            yield from blobs.upload(
                self.account.client("s3"), self.store, self.unsent, self.training.root,
                workers=_UPLOADS, kms_key=self.job_config.kms_key,
            )  # fmt: skip

    def start(self) -> Job:
        """Start the job and return it; if somebody else has just started it, return theirs.

        Raises:
            JobError: SageMaker does not take the request.
        """
        from botocore.exceptions import ClientError

        s3, sagemaker = (self.account.client(name) for name in ("s3", "sagemaker"))
        bucket, name = self.job_config.bucket, self.request["TrainingJobName"]
        with asking(f"to write into {bucket}", "s3:PutObject and s3:ListBucket"):
            for place, text in self.texts.items():
                inputs.put_text(s3, str(bucket), place, text, kms_key=self.job_config.kms_key)
        with asking(f"for the job {name}", "sagemaker:CreateTrainingJob and iam:PassRole"):
            try:
                sagemaker.create_training_job(**self.request)
            except ClientError as error:
                if code_of(error) != "ResourceInUse":
                    raise
        return describe(self.account, name)


def prepare(
    account: Account, training: Training, job_config: JobConfig, *, variables: Mapping[str, str]
) -> Submission:
    """Return the job that would be sent, after all checks that cost nothing. It changes nothing.

    variables are the environment's: they say which tracker the job reports to.

    Raises:
        JobError: it can't be sent or can't succeed; the message says why.
    """
    root = training.root
    reporting = tracker_variables(variables)
    hyperparameters = training.hyperparameters
    commit = provenance.source_tags(root).get("mlflow.source.git.commit")
    if clashing := sorted(set(reporting) & set(job_config.environment)):
        raise JobError(
            f"Asked for the variable {clashing[0]} in the job, which is set from the one of that "
            "name here. Leave it out."
        )
    refuse_changes(root, job_config)
    files = inputs.find_files(root, training.settings.chunks, training.settings.model.weights)
    role = check_role(account, job_config.role)
    bucket = check_bucket(account, job_config.bucket)
    image = check_image(
        account,
        job_config.image,
        commit=provenance.image_commit(root),
        repository=job_config.repository,
    )
    check_quota(account, job_config, kind="training")
    own = inputs.own_store(bucket, job_config.prefix)
    remote, held = held_by_remote(account, job_config, root, files)
    others = [file for file in files if file not in held]
    unsent = find_unsent(account, own, others)
    folder = f"{job_config.prefix}/lists"
    texts, channels = {}, {}
    stores = {contract.FILES: (own, others), contract.REMOTE: (remote, held)}
    for channel, (store, contents) in stores.items():
        if store and contents:
            text = inputs.manifest_text(store, contents)
            name = inputs.text_name(folder, text, "manifest.json")
            texts[name] = text
            channels[channel] = ("ManifestFile", f"s3://{bucket}/{name}")
    listing = contract.listing_text(files)
    name = inputs.text_name(folder, listing, contract.LISTING_NAME)
    texts[name] = listing
    # A prefix, not the object's name: so it lies in the channel's folder as listing.json.
    prefix = f"s3://{bucket}/{name.removesuffix(contract.LISTING_NAME)}"
    channels[contract.LISTING] = ("S3Prefix", prefix)
    lock = root / "dvc.lock"
    request = training_request(
        account, job_config, role=role, image=image, hyperparameters=hyperparameters,
        name=next_name(training.key, latest(account, training.key)),
        channels=channels,
        checkpoints=f"s3://{bucket}/{job_config.prefix}/checkpoints/{training.key}",
        tags={
            "unmask:key": training.key,
            "unmask:commit": commit or "none",
            "unmask:dvc-lock": md5(lock.read_bytes(), usedforsecurity=False).hexdigest(),
        },
        reporting=reporting,
    )  # fmt: skip
    return Submission(account, training, job_config, own, unsent, texts, request)


def refuse_changes(root: Path, job_config: JobConfig) -> None:
    """Raises JobError where the checkout's code is in no image, as no commit holds it."""
    changes = provenance.image_changes(root)
    if job_config.image is None and changes:
        raise JobError(
            "Asked for the image of this checkout's code; these files have changes that are in no "
            f"commit:\n{changes}\nCommit them and run containers/build_and_push, or name an image "
            "by --image."
        )


def held_by_remote(
    account: Account, job_config: JobConfig, root: Path, files: list[StoredFile]
) -> tuple[Store | None, set[StoredFile]]:
    """Return DVC's remote, where a job may read it, and the files that it holds."""
    remote = inputs.remote_store(root) if job_config.use_dvc_remote else None
    if remote is None or bucket_region(account, remote.bucket) != account.region:
        return None, set()
    with asking(f"for what {remote.uri} holds", "s3:ListBucket"):
        absent = {file.md5 for file in blobs.missing(account.client("s3"), remote, files)}
    held = {file for file in files if file.md5 not in absent}
    log.info("the job reads %d of %d files in DVC's remote, %s", len(held), len(files), remote.uri)
    return (remote, held) if held else (None, held)


def find_unsent(account: Account, own: Store, files: list[StoredFile]) -> list[StoredFile]:
    """Return one file for each content that our own store lacks."""
    with asking(f"for what {own.uri} holds", "s3:ListBucket"):
        unsent = blobs.missing(account.client("s3"), own, files)
    size_mb = sum(file.size_bytes for file in unsent) / 1e6
    log.info("%s lacks %d of %d files, %.1f MB", own.uri, len(unsent), len(files), size_mb)
    return unsent


def tracker_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the job's variables for its tracker: `none` if only this machine can reach it.

    Raises:
        JobError: the address holds what may be a secret, which everybody who may describe the job
            would see.
    """
    uri = variables.get("MLFLOW_TRACKING_URI", "")
    if not reports(variables):
        return {"UNMASK_TRACKER": "none"}
    if addresses.hides(uri):
        raise JobError(
            f"Asked for a job that reports to {addresses.public(uri)}; MLFLOW_TRACKING_URI holds "
            "a user, a password, a query or a fragment, which everybody would read who may "
            "describe the job. Put them into MLFLOW_TRACKING_USERNAME and _PASSWORD, which stay "
            "here: then the run is written down from here."
        )
    return {
        "UNMASK_TRACKER": "mlflow",
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_EXPERIMENT_NAME": variables.get("MLFLOW_EXPERIMENT_NAME", "unmask"),
    }


def reports(variables: Mapping[str, str]) -> bool:
    """Say whether a job can report to the tracker that the variables name, from where it runs."""
    tracker = variables.get("UNMASK_TRACKER") or "mlflow"
    is_open = not any(variables.get(f"MLFLOW_TRACKING_{each}") for each in _SIGN_IN)
    return tracker == "mlflow" and is_open and _is_public(variables.get("MLFLOW_TRACKING_URI", ""))


def _is_public(uri: str) -> bool:
    """Say whether an MLflow server may be reached from elsewhere; a file's never is.

    Nor is SageMaker's own, by an ARN: its plugin is not in the image.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname or "localhost"
    except ValueError:  # http://[
        return False
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return parts.scheme in ("http", "https") and not loopback


def training_request(
    account: Account,
    job_config: JobConfig,
    *,
    name: str,
    role: str,
    image: str,
    hyperparameters: dict[str, str],
    channels: Mapping[str, tuple[str, str]],
    checkpoints: str,
    tags: Mapping[str, str],
    reporting: Mapping[str, str],
) -> dict[str, Any]:
    """Return the request for CreateTrainingJob, as the SDK makes it.

    channels have each one's kind of address in S3, and the address.
    """
    sdk = import_sdk()
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.training import configs

    def channel(channel_name: str, kind: str, address: str) -> Any:
        source = configs.S3DataSource(
            s3_data_type=kind, s3_uri=address, s3_data_distribution_type="FullyReplicated"
        )
        return configs.InputData(channel_name=channel_name, data_source=source)

    networking = None
    if job_config.subnets:
        networking = configs.Networking(
            subnets=list(job_config.subnets), security_group_ids=list(job_config.security_groups)
        )
    # The role was looked at; simulating its rights, as the SDK would, refuses a narrow one.
    with environment({"SAGEMAKER_VALIDATE_ROLE": "false"}):
        trainer = sdk.ModelTrainer(
            sagemaker_session=Session(
                boto_session=account.session,
                sagemaker_client=account.client("sagemaker"),
                # Without it the SDK asks the region's own STS, whatever the endpoint.
                default_bucket=job_config.bucket,
            ),
            role=role,
            base_job_name=name,
            training_image=image,
            compute=configs.Compute(
                instance_type=job_config.instance_type,
                instance_count=job_config.instance_count,
                volume_size_in_gb=job_config.volume_gb,
                enable_managed_spot_training=job_config.spot,
                **(
                    {"volume_kms_key_id": job_config.volume_kms_key}
                    if job_config.volume_kms_key
                    else {}
                ),
            ),
            networking=networking,
            stopping_condition=configs.StoppingCondition(
                max_runtime_in_seconds=job_config.max_run_s,
                **(
                    {"max_wait_time_in_seconds": job_config.max_wait_s}
                    if job_config.max_wait_s
                    else {}
                ),
            ),
            output_data_config=configs.OutputDataConfig(
                s3_output_path=f"s3://{job_config.bucket}/{job_config.prefix}/jobs",
                compression_type="GZIP",
                kms_key_id=job_config.kms_key,
            ),
            checkpoint_config=configs.CheckpointConfig(s3_uri=checkpoints, local_path=CHECKPOINTS),
            input_data_config=[
                channel(each, kind, address) for each, (kind, address) in channels.items()
            ],
            hyperparameters=hyperparameters,  # text each: the SDK leaves text as it is
            environment={**job_config.environment, **reporting},
            tags=[configs.Tag(key=k, value=v) for k, v in {**job_config.tags, **tags}.items()],
        )
    trainer.with_metric_definitions(
        [
            configs.MetricDefinition(name=each, regex=regex)
            for each, regex in contract.METRICS.items()
        ]
    )
    # Not train(): that names a job by the clock, so that two who submit at once would pay twice,
    # and its dry run shows nothing.
    made: dict[str, Any] = trainer._create_training_job_args(boto3=True)
    return made | {"TrainingJobName": name}


def import_sdk() -> Any:
    """Return the SDK's module of ModelTrainer, imported quietly: it costs seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own parts
        from sagemaker.train import model_trainer
    for name in ("sagemaker", "sagemaker.config"):  # the second has a level of its own
        logging.getLogger(name).setLevel(logging.WARNING)
    return model_trainer


def report(tracker: Tracker, training: Training, model_dir: Path) -> None:
    """Report to a tracker from here, for a job that could not reach it."""
    from unmask.models import checkpoint
    from unmask.runtime import record_files

    wanted = contract.job_params(training.settings, training.key)
    sections = ("faces", "clips", "augment", "model", "train", "verdicts")
    tracker.log_params({name: getattr(wanted, name).model_dump(mode="json") for name in sections})
    for row in record_files.read_history(model_dir / checkpoint.HISTORY):
        known = {name: value for name, value in row.items() if value is not None}
        tracker.log_metrics(known, step=int(row["epoch"] or 0))
    tracker.log_file(model_dir / checkpoint.CARD)
    tracker.log_model(model_dir)
