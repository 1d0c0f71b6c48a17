"""The options of a job on SageMaker, from the command line and the environment."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from unmask.runtime.addresses import holds_secret
from unmask.sagemaker.contract import JobError

VARIABLE = "UNMASK_SAGEMAKER_"  # followed by the option's name in capitals
_DAY_S = 24 * 60 * 60
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/: CreateTrainingJob, Tag
_MAX_TAGS, _OWN_TAGS = 50, 3
_MAX_TAG_NAME, _MAX_TAG_VALUE = 128, 256
_MAX_VARIABLES, _OWN_VARIABLES, _MAX_VARIABLE_CHARS = 100, 3, 512
# CreateProcessingJob
_MAX_PROCESSING_S, _MAX_PROCESSING_CHARS = 9 * _DAY_S, 256
# What cropping has variables of its own for: UNMASK_SAGEMAKER_CROP_...
_MACHINE = {"instance_type", "instance_count", "volume_gb", "max_run_s", "spot", "max_wait_s"}
# Whoever may describe a job reads its environment.
_SECRET = re.compile(
    r"PASSWORD|PASSWD|SECRET|CREDENTIAL|(^|_)TOKEN($|_)|(ACCESS|API|PRIVATE)_?KEY", re.I
)


def _listed(value: object) -> object:
    """Take `a,b` for a list, as an environment variable holds it."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _paired(value: object) -> object:
    """Take `name=value` pairs for a mapping."""
    value = _listed(value)
    if not isinstance(value, tuple):
        return value
    if odd := [pair for pair in value if "=" not in pair]:
        raise ValueError(f"{odd[0]!r} is no pair name=value")
    return dict(pair.split("=", 1) for pair in value)


Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)]
Pairs = Annotated[dict[str, str], BeforeValidator(_paired)]
Text = Annotated[str, StringConstraints(min_length=1)]
Key = Annotated[str, Field(max_length=2048)]


class JobConfig(BaseModel):
    """What a job should have; its params and data come from the checkout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Annotated[
        Text | None, Field(description="ARN of the IAM role that the job works as.")
    ] = None
    bucket: Annotated[
        Text | None, Field(description="S3 bucket for what goes to jobs and comes from them.")
    ] = None
    prefix: Annotated[
        str,
        Field(
            pattern=r"^[\w.-]+(/[\w.-]+)*$",
            description="Folder of the bucket that all of it is put in.",
        ),
    ] = "unmask"
    region: Annotated[
        Text | None, Field(description="AWS region; that of your AWS settings by default.")
    ] = None
    image: Annotated[
        Text | None,
        Field(
            description="Image; by default that which containers/build_and_push made of this code."
        ),
    ] = None
    repository: Annotated[
        Text, Field(description="ECR repository of the image, as containers/build_and_push has it.")
    ] = "unmask"
    instance_type: Annotated[
        str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", description="Machine to train on.")
    ] = "ml.g5.xlarge"
    instance_count: Annotated[
        int, Field(ge=1, description="Machines that share each step (DDP).")
    ] = 1
    volume_gb: Annotated[int, Field(ge=1, le=16384, description="Disk of the machine, in GB.")] = 50
    max_run_s: Annotated[
        int, Field(ge=60, le=28 * _DAY_S, description="Seconds after which it is stopped.")
    ] = _DAY_S
    spot: Annotated[
        bool, Field(description="Spare capacity: cheaper, goes on after an interruption.")
    ] = False
    max_wait_s: Annotated[
        int | None,
        Field(ge=60, le=28 * _DAY_S, description="With spot: seconds to wait and run in all."),
    ] = None
    kms_key: Annotated[
        Key | None, Field(description="KMS key for what is written to the bucket.")
    ] = None
    volume_kms_key: Annotated[
        Key | None,
        Field(description="KMS key for the machine's disk; not for types with local disks."),
    ] = None
    subnets: Annotated[Texts, Field(description="Subnets of a VPC; with security groups.")] = ()
    security_groups: Annotated[Texts, Field(description="Security groups in that VPC.")] = ()
    tags: Annotated[Pairs, Field(description="Tags of the job, name=value.")] = {}
    environment: Annotated[
        Pairs, Field(description="Variables for the job, name=value; never a secret.")
    ] = {}
    use_dvc_remote: Annotated[
        bool, Field(description="Let the job read a DVC remote that holds all of its files.")
    ] = True
    poll_s: Annotated[
        float, Field(gt=0, le=600, description="Seconds between two looks at a job.")
    ] = 10

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [*self._limits(), *self._tag_problems(), *self._variable_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _limits(self) -> list[str]:
        problems = []
        if {".", ".."} & set(self.prefix.split("/")):
            problems.append(f"prefix: {self.prefix!r} should hold no step up")
        if self.spot and self.max_wait_s is None:
            problems.append(
                "spot needs max_wait_s, the seconds to wait for spare capacity and to run in all"
            )
        if self.max_wait_s is not None and not self.spot:
            problems.append("max_wait_s is of use only with spot")
        if self.max_wait_s is not None and self.max_wait_s < self.max_run_s:
            problems.append(
                f"max_wait_s {self.max_wait_s} includes max_run_s {self.max_run_s}: it is no less"
            )
        if bool(self.subnets) != bool(self.security_groups):
            problems.append("a VPC needs subnets and security_groups, both or neither")
        return problems

    def _tag_problems(self) -> list[str]:
        problems = []
        if len(self.tags) > _MAX_TAGS - _OWN_TAGS:
            problems.append(f"{len(self.tags)} tags: at most {_MAX_TAGS - _OWN_TAGS} beside ours")
        for name, value in self.tags.items():
            if not re.fullmatch(rf"(?!aws:)[\w\s.:/=+@-]{{1,{_MAX_TAG_NAME}}}", name):
                problems.append(
                    f"tag {name!r} should be of 1 to {_MAX_TAG_NAME} letters, digits, spaces and "
                    "_.:/=+-@, and not begin with aws:"
                )
            if not re.fullmatch(rf"[\w\s.:/=+@-]{{0,{_MAX_TAG_VALUE}}}", value):
                problems.append(
                    f"the value of tag {name!r} should be of at most {_MAX_TAG_VALUE} letters, "
                    "digits, spaces and _.:/=+-@"
                )
        return problems

    def _variable_problems(self) -> list[str]:
        problems = []
        if len(self.environment) > _MAX_VARIABLES - _OWN_VARIABLES:
            problems.append(
                f"environment has more than {_MAX_VARIABLES - _OWN_VARIABLES} variables"
            )
        for name, value in self.environment.items():
            if not re.fullmatch(r"[A-Za-z_]\w{0,511}", name, re.ASCII):
                problems.append(f"environment names {name!r}, which is no variable")
            if len(value) > _MAX_VARIABLE_CHARS:
                problems.append(
                    f"environment's {name} has {len(value)} characters: at most "
                    f"{_MAX_VARIABLE_CHARS}"
                )
            if _SECRET.search(name) or holds_secret(value):
                problems.append(
                    f"environment's {name} looks like a secret, which everybody who may describe "
                    "the job would read. Let the role of the job have access instead"
                )
        return problems


class CropConfig(JobConfig):
    """What cropping jobs should have. Their machines are not those of training."""

    instance_type: Annotated[
        str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", description="Machine to crop on.")
    ] = "ml.c7i.4xlarge"
    instance_count: Annotated[
        int, Field(ge=1, description="Jobs at most, each on a machine of its own.")
    ] = 1
    volume_gb: Annotated[int, Field(ge=1, le=16384, description="Disk of a machine, in GB.")] = 200

    def _limits(self) -> list[str]:
        problems = super()._limits()
        if not self.spot and self.max_run_s > _MAX_PROCESSING_S:
            problems.append(
                f"max_run_s {self.max_run_s}: a Processing job has at most {_MAX_PROCESSING_S}"
            )
        return problems

    def _variable_problems(self) -> list[str]:
        return super()._variable_problems() + [
            f"environment's {name} has {len(value)} characters: at most {_MAX_PROCESSING_CHARS}"
            for name, value in self.environment.items()
            if _MAX_PROCESSING_CHARS < len(value) <= _MAX_VARIABLE_CHARS and not self.spot
        ]


_KINDS = (JobConfig, CropConfig)
Config = TypeVar("Config", bound=JobConfig)


def variable(name: str, kind: type[JobConfig] = JobConfig) -> str:
    """Return the name of the environment variable for an option.

    >>> variable("role", CropConfig), variable("spot", CropConfig)
    ('UNMASK_SAGEMAKER_ROLE', 'UNMASK_SAGEMAKER_CROP_SPOT')
    """
    own = "CROP_" if kind is CropConfig and name in _MACHINE else ""
    return VARIABLE + own + name.upper()


def read_config(variables: Mapping[str, str], given: Mapping[str, Any]) -> JobConfig:
    """Return a job's options from UNMASK_SAGEMAKER_ variables; those in given take precedence.

    Raises:
        JobError: one is unknown or out of range, or two don't fit together.
    """
    return _read(variables, given, JobConfig)


def read_crop_config(variables: Mapping[str, str], given: Mapping[str, Any]) -> CropConfig:
    """Return the options of cropping jobs, as read_config does.

    Raises:
        JobError: as read_config.
    """
    return _read(variables, given, CropConfig)


def _read(variables: Mapping[str, str], given: Mapping[str, Any], kind: type[Config]) -> Config:
    own = {variable(name, kind): name for name in kind.model_fields}
    known = {variable(name, each) for each in _KINDS for name in each.model_fields}
    found: dict[str, Any] = {}
    if region := variables.get("AWS_REGION"):  # boto3 alone reads AWS_DEFAULT_REGION only
        found["region"] = region
    for set_one, text in variables.items():
        if not set_one.startswith(VARIABLE) or not text:
            continue
        if set_one not in known:
            close = difflib.get_close_matches(set_one, sorted(known), n=1)
            listed = ", ".join(sorted(known))
            hint = f"; did you mean {close[0]}?" if close else f": known are {listed}."
            raise JobError(f"{set_one} is set, and means nothing{hint} Unset or correct it.")
        if set_one in own:
            found[own[set_one]] = text
    try:
        return kind.model_validate(found | dict(given))
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            words = problem["msg"].removeprefix("Value error, ")
            if where := ".".join(map(str, problem["loc"])):
                words = f"{where}: {words}; found {problem['input']!r}"
            if where.startswith("environment"):  # its values may be secrets
                words = "environment: asked for pairs name=value, divided by commas"
            problems.append(words)
        raise JobError(
            "The job can't be as asked:\n  "
            + "\n  ".join(problems)
            + f"\nCorrect the option, or the variable {VARIABLE}... of that name."
        ) from error
