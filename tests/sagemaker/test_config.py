"""JobConfig is read from options and the environment; impossible values are refused."""

import pytest

from unmask.sagemaker.config import JobConfig, read_config
from unmask.sagemaker.contract import JobError


def test_an_option_goes_before_a_variable() -> None:
    variables = {
        "UNMASK_SAGEMAKER_BUCKET": "jobs",
        "UNMASK_SAGEMAKER_VOLUME_GB": "70",
        "UNMASK_SAGEMAKER_SPOT": "true",
        "UNMASK_SAGEMAKER_MAX_WAIT_S": "90000",
        "UNMASK_SAGEMAKER_SUBNETS": "a, b",
        "UNMASK_SAGEMAKER_SECURITY_GROUPS": "c",
        "UNMASK_SAGEMAKER_TAGS": "team=faces,cost=12=3",
        "UNMASK_SAGEMAKER_KMS_KEY": "",  # unset
        "UNMASK_TRACKER": "none",  # another's
    }
    assert read_config(variables, {"volume_gb": 80, "tags": ("team=audio",)}) == JobConfig(
        bucket="jobs", volume_gb=80, spot=True, max_wait_s=90000, subnets=("a", "b"),
        security_groups=("c",), tags={"team": "audio"},
    )  # fmt: skip
    assert read_config(variables, {}).tags == {"team": "faces", "cost": "12=3"}


@pytest.mark.parametrize(
    ("own", "given", "region"), [("", {}, "a"), ("b", {}, "b"), ("b", {"region": "c"}, "c")]
)
def test_the_nearest_word_on_the_region_counts(
    own: str, given: dict[str, str], region: str
) -> None:
    variables = {"AWS_REGION": "a", "UNMASK_SAGEMAKER_REGION": own}
    assert read_config(variables, given).region == region


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spot": "yes"}, "spot needs max_wait_s"),
        ({"max_wait_s": 90000}, "max_wait_s is of use only with spot"),
        ({"spot": True, "max_wait_s": 600}, "includes max_run_s 86400: it is no less"),
        ({"max_run_s": 3_000_000}, "max_run_s: .*less than or equal to 2419200; found 3000000"),
        ({"instance_type": "g5.xlarge"}, "instance_type: String should match"),
        ({"subnets": ("a",)}, "a VPC needs subnets and security_groups"),
        ({"tags": ("team",)}, "'team' is no pair name=value"),
        ({"tags": {f"t{number}": "" for number in range(48)}}, "48 tags: at most 47 beside ours"),
        ({"tags": {"t" * 129: ""}}, "of 1 to 128 letters"),
        ({"tags": {"t": "v" * 257}}, "at most 256 letters"),
        ({"tags": {"t": "<v>"}}, "the value of tag 't'"),
        ({"environment": {"A": "b" * 513}}, "has 513 characters: at most 512"),
        ({"environment": {"1A": "b"}}, "'1A', which is no variable"),
        ({"environment": {"WANDB_API_KEY": "b"}}, "WANDB_API_KEY looks like a secret"),
        ({"prefix": "/a"}, "prefix: String should match"),
        ({"prefix": "a/../b"}, "prefix: .*no step up"),
        ({"wish": 1}, "wish: Extra inputs"),
        ({"environment": "HF_TOKEN=x"}, "HF_TOKEN looks like a secret"),
        ({"environment": "PROXY=http://ann:x@proxy"}, "PROXY looks like a secret"),
    ],
)
def test_what_can_not_be_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(JobError, match=words):
        read_config({}, given)


def test_what_only_sounds_like_a_secret_is_taken() -> None:
    read_config({}, {"environment": "TOKENIZERS_PARALLELISM=false"})


def test_a_variable_that_means_nothing_is_refused() -> None:
    with pytest.raises(JobError, match="did you mean UNMASK_SAGEMAKER_INSTANCE_TYPE"):
        read_config({"UNMASK_SAGEMAKER_INSTANCE_TYP": "ml.g5.xlarge"}, {})
