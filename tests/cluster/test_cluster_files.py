"""The cluster files in containers/, held to Ray's schema, and to each other."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config

CONTAINERS = Path(__file__).parents[2] / "containers"


def read(name: str) -> Any:
    """Return a file of which all that stands in angle brackets was filled in by its own example."""
    text = (CONTAINERS / name).read_text()
    assert re.findall("<[^<>\n]+>", text)
    return yaml.safe_load(re.sub("<([^<>\n]+)>", r"\1", text))


def test_ray_up_takes_the_file():
    config = prepare_config(read("ray-cluster.yaml"))
    validate_config(config)
    workers = config["available_node_types"]["workers"]
    assert workers["max_workers"] == config["max_workers"] == 5
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(max_worker=5),
        lambda config: config.update(head_node_type="heads"),
        lambda config: config["provider"].pop("type"),
        lambda config: config["available_node_types"]["workers"].update(min_workers="five"),
    ],
)
def test_ray_s_schema_sees_mistakes(change):
    config = prepare_config(read("ray-cluster.yaml"))
    change(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(config)


def test_all_nodes_install_and_start_the_same():
    config = read("ray-cluster.yaml")
    types = config["available_node_types"]
    assert types["head"]["node_config"]["ImageId"] == types["workers"]["node_config"]["ImageId"]
    starts = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    assert all("RAY_worker_niceness=0" in commands[-1] for commands in starts)
    assert all(commands[-1].endswith("--disable-usage-stats") for commands in starts)
    [packages] = [line for line in config["setup_commands"] if "--require-hashes" in line]
    assert packages.endswith(" -r /shared/wheels/crop.lock")  # not all that training takes
    made = (CONTAINERS / "ray-cluster.yaml").read_text().partition("cluster_name:")[0]
    assert "--extra ray --constraint requirements.lock" in made
    assert "--output-file /shared/wheels/crop.lock pyproject.toml" in made
    assert "--port=6379" in starts[0][-1]
    assert "--address=$RAY_HEAD_IP:6379" in starts[1][-1]


def test_kuberay_s_manifest_is_of_the_same_shape():
    """Its schema is on no package index: this is what a pod that crops must have."""
    manifest = read("kuberay-cluster.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    spec = manifest["spec"]
    assert set(spec) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert Version(spec["rayVersion"]) >= Version("2.50")
    head, [workers] = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"] == 5
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        [volume] = pod["volumes"]
        assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]
        assert container["workingDir"].startswith(container["volumeMounts"][0]["mountPath"] + "/")
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["image"] == head["template"]["spec"]["containers"][0]["image"]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"]
    # Beyond what four processes a shard take, at 0.8 GB each.
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["memory"].removesuffix("Gi")) >= 0.8 * int(limits["cpu"])
