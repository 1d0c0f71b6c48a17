"""A submission against a network of two nodes on loopback: each call, and each way it can fail."""

import io
import json
import math
import re
import types
import uuid
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import substra
import yaml
from click.testing import CliRunner
from fake_network import IDS, PASSWORD, TOKEN, Network, running
from safetensors.numpy import save

from unmask.cli.main import main
from unmask.errors import DatasetError
from unmask.federated.archives import Asset, Assets, opener_of
from unmask.federated.leaderboard import read_all
from unmask.federated.plans import FUNCTIONS
from unmask.federated.remote import client
from unmask.federated.remote.assets import plans_of, wanted_data
from unmask.federated.remote.client import opened
from unmask.federated.remote.config import Network as Organisations
from unmask.federated.remote.config import (
    Secret,
    read_members,
    read_network,
    read_secret,
)
from unmask.federated.remote.keys import AssetKeys
from unmask.federated.remote.submit import (
    preview,
    read_others_keys,
    register,
    submit,
    submitter_node,
)
from unmask.federated.remote.watch import fetch, status, table
from unmask.federated.samples import (
    PAINTED,
    FederatedError,
    cropped,
    deal,
    make_samples,
    read_manifest,
    read_videos,
)
from unmask.federated.state import write_zip
from unmask.federated.synthetic_samples import paint_samples
from unmask.records import Chunk
from unmask.runtime.disk import content_digest
from unmask.scoring.verdicts import NOTHING_LEARNED

ROOT = Path(__file__).parents[3]

# ---------------------------------------------------------------- what is submitted


@pytest.fixture
def net():
    return Network()


@pytest.fixture
def urls(net):
    """Return the addresses of the two nodes while they run."""
    with running(net) as found:
        yield found


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """Return a folder with both organisations' samples."""
    # Not by federated_small: it imports torch, which a submission does not.
    folder = tmp_path_factory.mktemp("dealt")
    painted = paint_samples(folder, 6, splits=("train", "validation", "test"))
    rows = read_videos(painted).rows
    faces = {row.record.video_id: row.crops for row in rows}
    chunk = Chunk("painted", [row.record for row in rows], faces, folder / "crops")
    for name, dealt in deal([cropped(chunk, PAINTED)], list(IDS)).items():
        make_samples(name, dealt, folder / "samples")
    return folder / "samples"


@pytest.fixture
def values(urls, samples):
    """Return what organisations.yaml says."""
    return {
        "submitter": "lab",
        "functions_open_to": ["lab", "clinic"],
        "organisations": {
            name: {
                "id": IDS[name], "url": urls[name], "client": name, "tls": False,
                "samples": str(samples / name), "open_to": ["lab"] if name == "clinic" else [],
            }
            for name in IDS
        },
    }  # fmt: skip


@pytest.fixture
def config(values, tmp_path):
    return write_config(tmp_path, values)


def write_config(folder, values):
    path = folder / "organisations.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture
def assets(tmp_path):
    functions = {}
    for name in FUNCTIONS:
        path = tmp_path / f"{name}.zip"
        write_zip(path, {"function.py": name.encode()})
        functions[name] = Asset(path, ROOT / f"federated/{name}/description.md", name * 4)
    return Assets(opener_of(ROOT), functions)


RUN = set(FUNCTIONS) - {"publish"}  # by a plan that trains
SECRETS = {"lab": Secret(token=TOKEN), "clinic": Secret(username="me", password=PASSWORD)}


def assert_no_secret(text, *folders):
    """Fail if a secret is in the text or in a file below the folders."""
    texts = [text.encode()]
    texts += [path.read_bytes() for f in folders for path in f.rglob("*") if path.is_file()]
    for secret in (TOKEN, PASSWORD, "a-session"):
        assert not [each for each in texts if secret.encode() in each]


def read_network_of(members):
    """Return a network of these members, the first of whom submits."""
    first = next(iter(members))
    return Organisations.model_validate(
        {"submitter": first, "functions_open_to": [first], "organisations": members}
    )


def send(config, assets, folder, *, secrets=SECRETS, kinds=("fedavg",)):
    """Submit; return what was sent, and the keys."""
    network, keys = read_network(config), AssetKeys(folder / "assets_keys.json")
    read_others_keys(network, keys)
    members = read_members(network)
    plans = plans_of(kinds, members, 1, submitter="lab")
    return list(submit(network, plans, members, assets, keys, secrets)), keys


@contextmanager
def lab_node(config):
    with submitter_node(read_network(config), SECRETS) as node:
        yield node


# ---------------------------------------------------------------- each call


def test_every_call_of_a_submission_is_what_substra_wants(net, config, assets, tmp_path, samples):
    sent, keys = send(config, assets, tmp_path)
    assert all(each.is_new for each in sent)
    assert net.sessions == {"begun": 1, "ended": 1}
    counted = Counter((who, path) for who, method, path, _, _ in net.calls if method == "POST")
    for who in IDS:
        manifest = read_manifest(samples / who)
        assert counted[who, "/data_manager/"] == 2
        assert counted[who, "/data_sample/"] == len(manifest) == 3
    assert counted["lab", "/function/"] == len(RUN)
    assert counted["lab", "/compute_plan/"] == counted["lab", "/task/bulk_create/"] == 1
    assert not counted["clinic", "/function/"]

    # Datasets: who may use them, and the opener's bytes.
    [row] = [each for each in net.assets["data_manager"].values() if each["name"] == "clinic test"]
    both = {"public": False, "authorized_ids": ["ClinicMSP", "LabMSP"]}
    assert (row["permissions"], row["logs_permission"]) == (both, both)
    [row] = [each for each in net.assets["data_manager"].values() if each["name"] == "lab train"]
    assert row["permissions"] == {"public": False, "authorized_ids": ["LabMSP"]}
    opener = (ROOT / "federated/dataset/opener.py").read_bytes()
    for key in net.assets["data_manager"]:
        assert net.uploads[key]["data_opener"] == opener

    # Samples: each one's folder, zipped, in the dataset of its side and owner.
    for key, fields in net.assets["data_sample"].items():
        [dataset] = fields["data_manager_keys"]
        who, side = net.assets["data_manager"][dataset]["name"].split()
        names = set(zipfile.ZipFile(io.BytesIO(net.uploads[key]["path"])).namelist())
        folders = [samples / who / side / s.name for s in read_manifest(samples / who)
                   if s.side == side]  # fmt: skip
        files = [
            {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
            for folder in folders
        ]
        assert names in files

    # Functions: the archive's bytes and what they take and give.
    [(key, row)] = [i for i in net.assets["function"].items() if i[1]["name"] == "unmask predict"]
    assert net.uploads[key]["file"] == assets.functions["predict"].path.read_bytes()
    assert row["permissions"] == both
    assert set(row["inputs"]) == {"opener", "datasamples", "model"}
    assert row["outputs"] == {"predictions": {"kind": "ASSET_MODEL", "multiple": False}}

    # The plan: each task's worker, samples and parents by the keys of what was registered.
    [plan] = net.plan_keys()
    by_tag = {task["tag"]: task for task in net.tasks.values()}
    assert {task["compute_plan_key"] for task in net.tasks.values()} == {plan}
    assert len(by_tag) == 2 + 1 + 2 * 4
    predict = by_tag["predict-clinic"]
    assert predict["worker"] == "ClinicMSP"
    assert predict["function_key"] == key
    given = {each["identifier"]: each for each in predict["inputs"]}
    dataset = net.assets["data_manager"][given["opener"]["asset_key"]]
    assert dataset["name"] == "clinic test"
    sample = net.assets["data_sample"][given["datasamples"]["asset_key"]]
    assert sample["data_manager_keys"] == [given["opener"]["asset_key"]]
    assert given["model"]["parent_task_key"] == by_tag["mean-1"]["key"]
    assert by_tag["log_loss-lab"]["outputs"]["performance"]["permissions"]["public"]
    shared = predict["outputs"]["predictions"]["permissions"]
    assert shared == {"public": False, "authorized_ids": ["ClinicMSP"]}
    assert [each.is_sent for each in keys.plans.values()] == [True]


def test_a_second_submission_sends_nothing(net, config, assets, tmp_path):
    send(config, assets, tmp_path)
    posts, before = len(net.paths()), (tmp_path / "assets_keys.json").read_text()
    sent, _ = send(config, assets, tmp_path)
    assert not any(each.is_new for each in sent)
    assert len(net.paths()) == posts
    assert (tmp_path / "assets_keys.json").read_text() == before
    # Another plan needs no assets but itself.
    sent, _ = send(config, assets, tmp_path, kinds=("fedavg", "sequence"))
    assert [each.name for each in sent if each.is_new] == ["plan sequence"]


def test_a_changed_function_alone_is_sent_again(config, assets, tmp_path):
    send(config, assets, tmp_path)
    write_zip(assets.functions["auc"].path, {"function.py": b"another"})
    changed = Asset(assets.functions["auc"].path, assets.functions["auc"].description, "new")
    again = Assets(assets.opener, {**assets.functions, "auc": changed})
    sent, _ = send(config, again, tmp_path)
    assert [each.name for each in sent if each.is_new] == ["function auc", "plan fedavg-1"]


def test_a_dry_run_asks_no_node(net, config, assets, tmp_path):
    network = read_network(config)
    members, keys = read_members(network), AssetKeys(tmp_path / "assets_keys.json")
    plans = plans_of(("single",), members, 1, submitter="lab")
    would = preview(network, plans, members, assets, keys)
    assert net.calls == []
    assert not keys.path.exists()
    done, _ = send(config, assets, tmp_path, kinds=("single",))
    assert [each.name for each in done] == [each.name.split(",")[0] for each in would]


def test_an_owner_registers_for_a_submitter_without_its_password(
    net, values, assets, tmp_path
):  # fmt: skip
    owner, lab = tmp_path / "owner", tmp_path / "lab"
    owner.mkdir()
    lab.mkdir()
    network = read_network(write_config(owner, values))
    wanted = wanted_data(network, read_members(network)["clinic"], assets.opener)
    secrets = {"clinic": SECRETS["clinic"]}
    done = list(register(network, wanted, AssetKeys(owner / "assets_keys.json"), secrets))
    assert len(done) == 2 + 3
    config = write_config(lab, values)
    with pytest.raises(FederatedError, match="unmask federated register"):
        send(config, assets, lab, secrets={"lab": SECRETS["lab"], "clinic": None})
    values["organisations"]["clinic"]["keys"] = str(owner / "assets_keys.json")
    sent, _ = send(
        write_config(lab, values), assets, lab, secrets={"lab": SECRETS["lab"], "clinic": None}
    )
    assert not [each for each in sent if each.owner == "clinic" and each.is_new]
    assert {who for who, method, path, _, _ in net.calls if path == "/function/"} == {"lab"}
    assert len(net.assets["data_sample"]) == 6


# ---------------------------------------------------------------- what can fail


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("POST", "/data_manager/", "answer lost"),
        ("POST", "/data_sample/", "answer lost"),
        ("POST", "/data_sample/", "cut in the middle"),
        ("POST", "/function/", "answer lost"),
        ("POST", "/function/", "cut in the middle"),
        ("POST", "/compute_plan/", "answer lost"),
        ("POST", "/task/bulk_create/", "answer lost"),
        ("POST", "/task/bulk_create/", "cut in the middle"),
        ("POST", "/data_sample/", 401),
        ("POST", "/function/", 403),
        ("POST", "/function/", 500),
        ("POST", "/function/", "not JSON"),
        ("POST", "/function/", {"code": 409, "body": {"detail": "there"}}),
        ("POST", "/data_sample/", {"code": 409, "body": {"key": "abc"}}),
    ],
)
def test_an_interrupted_submission_goes_on_without_sending_twice(
    net, config, assets, tmp_path, method, path, what
):
    net.fail(method, path, what)
    with pytest.raises(FederatedError) as caught:
        send(config, assets, tmp_path)
    assert caught.value.__cause__ is None
    assert_no_secret(str(caught.value), tmp_path)
    assert "node at http://127.0.0.1" in str(caught.value)
    send(config, assets, tmp_path)
    assert {kind: len(found) for kind, found in net.assets.items()} == {
        "function": len(RUN), "data_manager": 4, "data_sample": 6, "compute_plan": 1,
    }  # fmt: skip
    assert len(net.tasks) == 11
    again, _ = send(config, assets, tmp_path)
    assert not any(each.is_new for each in again)


def test_a_conflict_names_what_is_there_and_is_kept(net, config, assets, tmp_path):
    key = str(uuid.uuid4())
    net.fail("POST", "/function/", {"code": 409, "body": {"key": key}})
    _, keys = send(config, assets, tmp_path)
    assert key in keys.assets.values()
    assert len(net.assets["function"]) == len(RUN) - 1


def test_a_node_that_is_unavailable_for_a_while_is_asked_again(net, config, assets, tmp_path):
    net.fail("POST", "/function/", 503)
    send(config, assets, tmp_path)
    assert net.paths().count("/function/") == len(RUN) + 1
    assert len(net.assets["function"]) == len(RUN)


def test_a_time_out_of_the_node_is_asked_again(net, config, assets, tmp_path):
    net.fail("POST", "/function/", 408)
    send(config, assets, tmp_path)
    assert net.paths().count("/function/") == len(RUN) + 1


@pytest.mark.parametrize("code", [408, 503])
def test_it_is_not_asked_for_ever(net, config, assets, tmp_path, monkeypatch, code):
    clock = [0.0]
    fake = types.SimpleNamespace(
        time=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds)
    )
    monkeypatch.setattr(substra.sdk.utils, "time", fake)
    net.fail("POST", "/function/", code, times=50)
    with pytest.raises(FederatedError, match="Run the same command again"):
        send(config, assets, tmp_path)
    assert 300 < clock[0] < 1300


def test_a_node_that_falls_silent_is_given_up(net, config):
    net.fail("GET", "/info/", "hang")
    own = read_network(config).organisations["lab"]
    with (
        pytest.raises(FederatedError, match="no answer came in time"),
        opened("lab", own, SECRETS["lab"], timeout_s=0.3),
    ):
        pass


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (Secret(token="an-old-one"), "it does not know who asks.*SUBSTRA_LAB_TOKEN"),
        (Secret(username="me", password="wrong-one"), "refused the user name or the password"),
    ],
)
def test_who_is_not_known_is_told_before_anything_is_sent(
    net, config, assets, tmp_path, secret, said, caplog
):
    caplog.set_level(0)
    with pytest.raises(FederatedError, match=said) as caught:
        send(config, assets, tmp_path, secrets={**SECRETS, "lab": secret})
    assert set(net.paths()) <= {"/api-token-auth/"}
    for text in (str(caught.value), caplog.text):
        assert "an-old-one" not in text
        assert "wrong-one" not in text


def test_a_token_that_expires_on_the_way_is_told(net, config, assets, tmp_path):
    net.fail("POST", "/compute_plan/", 401)
    with pytest.raises(FederatedError, match=r"no longer: 401\. Renew SUBSTRA_LAB_TOKEN"):
        send(config, assets, tmp_path)


def test_a_node_of_somebody_else_is_refused(net, values, assets, tmp_path):
    members = values["organisations"]
    members["lab"]["url"], members["clinic"]["url"] = (
        members["clinic"]["url"], members["lab"]["url"],
    )  # fmt: skip
    with pytest.raises(FederatedError, match=r"Asked for ClinicMSP at .* that is LabMSP"):
        send(write_config(tmp_path, values), assets, tmp_path)
    assert set(net.paths()) == {"/api-token-auth/"}


def test_an_organisation_that_the_network_does_not_know_is_refused(net, values, assets, tmp_path):
    values["organisations"]["other"] = {
        "id": "OtherMSP", "url": "https://other.example", "client": "other",
    }  # fmt: skip
    with pytest.raises(FederatedError, match="OtherMSP; it knows ClinicMSP, LabMSP"):
        send(write_config(tmp_path, values), assets, tmp_path)
    assert set(net.paths()) == {"/api-token-auth/"}


def test_a_plan_that_may_not_be_sent_is_refused_before_a_node_is_asked(
    net, values, assets, tmp_path
):  # fmt: skip
    values["organisations"]["clinic"]["open_to"] = []
    with pytest.raises(FederatedError, match="clinic does not let lab compute on its videos"):
        send(write_config(tmp_path, values), assets, tmp_path)
    assert net.calls == []


def test_a_client_is_never_a_local_one(config, monkeypatch):
    monkeypatch.setenv("SUBSTRA_CLIENTS_CONFIGURATION_FILE_PATH", "no-such-file.yaml")
    monkeypatch.setenv("SUBSTRA_LAB_INSECURE", "false")  # which the SDK reads as true
    monkeypatch.setenv("SUBSTRA_LAB_BACKEND_TYPE", "subprocess")
    monkeypatch.setenv("SUBSTRA_LAB_URL", "http://elsewhere.example")
    with lab_node(config) as node:
        assert node.client.backend_mode == "remote"
        assert node.client._backend._client.base_url == node.member.url
        assert node.client._backend._client._default_kwargs == {
            "verify": False, "timeout": client.TIMEOUT_S,
        }  # fmt: skip


def test_certificates_are_checked_unless_it_says_otherwise(urls):
    # Nothing speaks TLS there: the handshake fails, and the token never leaves.
    values = {"id": "LabMSP", "client": "lab", "url": urls["lab"].replace("http:", "https:")}
    network = read_network_of({"lab": values})
    with (
        pytest.raises(FederatedError, match="the connection failed"),
        opened("lab", network.organisations["lab"], SECRETS["lab"]) as node,
    ):
        assert node is None


# ---------------------------------------------------------------- status and results


def finish(net, *, scores=None):
    """Let the network run all tasks; a metric of value scores[its tag]."""
    for key, task in net.tasks.items():
        task["status"] = "STATUS_DONE"
        if "performance" in task["outputs"]:
            net.performances[key] = (scores or {}).get(task["tag"], 0.5)


def a_model(path):
    """Return the bytes of a model as it travels."""
    about = {"tracks": 1, "rounds": 1, "format": 1}
    limits = asdict(replace(NOTHING_LEARNED, max_sharpness=1.0))
    settings = {"model": {}, "temperature": 1.0, "limits": limits}
    write_zip(path, {
        "weights.safetensors": save({"conv.weight": np.ones(3, np.float32)}),
        "checkpoint.json": json.dumps(settings).encode(),
        "state.json": json.dumps(about).encode(),
    })  # fmt: skip
    return path.read_bytes()


def test_status_shows_who_does_what_and_the_log_of_a_failed_task(net, config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path)
    [sent] = keys.plans.values()
    net.log = f"Traceback\n\x1b[31m{TOKEN}\nValueError: no faces\n"
    finish(net)
    [failed] = [task for task in net.tasks.values() if task["tag"] == "train-1-clinic"]
    failed["status"] = "STATUS_FAILED"
    with lab_node(config) as node:
        state = status(node, sent)
    text = table(state)
    assert state.status == "failed"
    assert len(state.tasks) == 11
    assert "train-1-clinic failed at clinic; its log ends:" in text
    assert "      | ValueError: no faces" in text
    assert "predict-lab                  done" in text
    assert TOKEN not in text
    assert "\x1b" not in text


def test_a_log_that_is_not_ours_to_read_is_no_error(net, config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path)
    [sent] = keys.plans.values()
    [(key, failed)] = [i for i in net.tasks.items() if i[1]["tag"] == "train-1-clinic"]
    failed["status"] = "STATUS_FAILED"
    net.fail("GET", f"/task/{key}/logs/", 403)
    with lab_node(config) as node:
        text = table(status(node, sent))
    assert "EXECUTION_ERROR; Asked lab's node" in text
    assert "it may not" in text
    assert TOKEN not in text


def test_what_a_plan_scored_is_fetched(net, config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path)
    [(digest, sent)] = keys.plans.items()
    finish(net, scores={"log_loss-lab": 0.25, "log_loss-clinic": 0.75, "coverage-lab": 1.0,
                        "coverage-clinic": 1.0})  # fmt: skip
    net.exports = False
    with lab_node(config) as node:
        submission = fetch(node, sent, digest, tmp_path / "home")
    assert submission.scores["clinic"]["log_loss"] == 0.75
    assert submission.scores["lab"]["auc"] == 0.5
    assert submission.mean("log_loss") == 0.5  # both have two test videos
    assert submission.videos == {"clinic": 2, "lab": 2}
    assert submission.model is None  # the node does not give models away
    assert submission.backend == "remote"
    assert submission.functions["auc"] == "auc" * 4


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.5"])
def test_a_score_that_is_no_number_is_refused(net, config, assets, tmp_path, value):
    _, keys = send(config, assets, tmp_path)
    [(digest, sent)] = keys.plans.items()
    finish(net, scores={"auc-lab": value})
    with (
        lab_node(config) as node,
        pytest.raises(FederatedError, match="1 are missing or none: auc-lab"),
    ):
        fetch(node, sent, digest, tmp_path / "home")


def test_a_plan_that_is_not_done_has_no_results(config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path)
    [(digest, sent)] = keys.plans.items()
    with lab_node(config) as node, pytest.raises(FederatedError, match="is doing, 0 of 11"):
        fetch(node, sent, digest, tmp_path / "home")


def test_a_model_that_is_none_is_refused(net, config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path)
    [(digest, sent)] = keys.plans.items()
    finish(net)
    net.model = b"\x80\x04 a pickle"
    with lab_node(config) as node, pytest.raises(FederatedError):
        fetch(node, sent, digest, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_the_model_is_fetched_where_the_submitter_may_have_it(net, config, assets, tmp_path):
    _, keys = send(config, assets, tmp_path, kinds=("fedavg", "sequence"))
    finish(net)
    net.model = a_model(tmp_path / "made.zip")
    with lab_node(config) as node:
        for digest, sent in keys.plans.items():
            home = tmp_path / digest
            submission = fetch(node, sent, digest, home)
            assert (home / "model.zip").read_bytes() == net.model
            assert submission.model == content_digest(tmp_path / "made.zip")
    # A model that stays with others is not asked for.
    asked = len([path for path in net.paths("GET") if path.startswith("/model/")])
    [(digest, sent)] = [i for i in keys.plans.items() if i[1].plan["name"] == "sequence"]
    sent.plan["tasks"] = [task | {"shared_with": []} for task in sent.plan["tasks"]]
    with lab_node(config) as node:
        assert fetch(node, sent, digest, tmp_path / "other").model is None
    assert len([path for path in net.paths("GET") if path.startswith("/model/")]) == asked == 2


# ---------------------------------------------------------------- organisations.yaml


def test_secrets_come_from_the_environment_and_are_never_shown(config):
    own = read_network(config).organisations["lab"]
    given = {"SUBSTRA_LAB_TOKEN": TOKEN, "SUBSTRA_CLINIC_TOKEN": "x"}
    assert read_secret(own, given) == Secret(token=TOKEN)
    assert TOKEN not in repr(read_secret(own, given))
    assert read_secret(own, {"SUBSTRA_LAB_USERNAME": "me"}) is None
    pair = {"SUBSTRA_LAB_USERNAME": "me", "SUBSTRA_LAB_PASSWORD": PASSWORD}
    assert read_secret(own, pair) == Secret(username="me", password=PASSWORD)
    assert PASSWORD not in repr(read_secret(own, pair))


def changed(values, *path, to):
    *above, last = path
    for part in above:
        values = values[part]
    values[last] = to


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("submiter",), "lab", "submiter: unknown key; did you mean submitter?"),
        (("submitter",), "labb", "submitter names labb, .* did you mean lab?"),
        (("functions_open_to",), ["nobody"], "nobody, .*; known are lab, clinic"),
        (("organisations", "lab", "open_to"), ["clinik"], "did you mean clinic?"),
        (("organisations", "lab", "urll"), "x", "lab.urll: unknown key; did you mean url?"),
        (("organisations", "lab", "password"), PASSWORD, "lab.password: unknown key"),
        (("organisations", "lab", "url"), f"https://me:{PASSWORD}@x", "the environment"),
        (("organisations", "lab", "url"), "ftp://x", "no https://host address"),
        (("organisations", "lab", "url"), None, "lab.url: Input should be a valid string"),
        (("organisations", "lab", "tls"), True, "url is not https"),
        (("organisations", "lab", "tls"), "false", "lab.tls: Input should be a valid boolean"),
        (("organisations", "lab", "id"), "ClinicMSP", "two organisations have the same id"),
        (("organisations", "lab", "client"), PASSWORD + "!", "lab.client"),
        (("organisations",), {}, "organisations: .*at least 1"),
    ],
)
def test_a_file_that_says_what_can_not_be_is_an_error(values, tmp_path, path, to, said):
    changed(values, *path, to=to)
    with pytest.raises(FederatedError, match=re.sub(r"\?$", r"\\?", said)) as caught:
        read_network(write_config(tmp_path, values))
    assert PASSWORD not in str(caught.value)


def test_a_file_that_is_not_there_or_no_yaml_is_an_error(tmp_path):
    with pytest.raises(FederatedError, match=r"can't be read.*Nothing was run or sent"):
        read_network(tmp_path / "none.yaml")
    path = tmp_path / "organisations.yaml"
    path.write_text(f"a: 1\npassword: '{PASSWORD}")
    with pytest.raises(FederatedError, match="line 2: not YAML") as caught:
        read_network(path)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["2001-99-99", "0x_", "!!int x", "!!bool x", "!!timestamp x"],
)
def test_a_value_that_can_not_be_is_no_yaml(tmp_path, value):
    path = tmp_path / "organisations.yaml"
    path.write_text(f"submitter: {value}\npassword: {PASSWORD}")
    with pytest.raises(FederatedError, match="not YAML") as caught:
        read_network(path)
    assert PASSWORD not in str(caught.value)


def test_a_manifest_that_is_missing_is_an_error(values, tmp_path):
    values["organisations"]["lab"]["samples"] = str(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="unmask federated samples"):
        read_members(read_network(write_config(tmp_path, values)))


def test_a_damaged_file_of_keys_is_an_error(tmp_path):
    for text in (
        "{",
        "[]",
        "[" * 2000,
        '{"format": 2}',
        '{"format":1,"assets":{"a":"b"},"plans":{}}',
    ):
        (tmp_path / "assets_keys.json").write_text(text)
        with pytest.raises(FederatedError, match="holds none of this version"):
            AssetKeys(tmp_path / "assets_keys.json")


# ---------------------------------------------------------------- the commands


def type_in(*words):
    return CliRunner().invoke(main, ["federated", *words])


@pytest.fixture
def checkout(config, tmp_path, monkeypatch, assets):
    """Return a folder in which the commands run, with the small functions for real ones."""
    assert config.parent == tmp_path
    (tmp_path / "federated").symlink_to(ROOT / "federated")
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    monkeypatch.setattr("unmask.cli.federated._pack", lambda *_: assets)
    monkeypatch.setenv("SUBSTRA_LAB_TOKEN", TOKEN)
    monkeypatch.setenv("SUBSTRA_CLINIC_USERNAME", "me")
    monkeypatch.setenv("SUBSTRA_CLINIC_PASSWORD", PASSWORD)
    return tmp_path


def test_the_commands_submit_show_and_fetch_without_a_secret(net, checkout, caplog):
    caplog.set_level(0)
    own = ["--config", "organisations.yaml"]
    would = type_in("submit", *own, "--plan", "single", "--dry-run")
    assert would.exit_code == 0, would.output
    assert net.calls == []
    assert would.stdout.count("send  http://127.0.0.1") == 4 + 6 + 5 + 2
    sent = type_in("submit", *own, "--plan", "single")
    assert sent.exit_code == 0, sent.output
    assert sent.stdout == "plan single-lab: sent\nplan single-clinic: sent\n"
    again = type_in("submit", *own, "--plan", "single", "--dry-run")
    assert "send  " not in again.stdout
    shown = type_in("status", *own)
    assert "single-clinic: doing" in shown.stdout
    early = type_in("fetch", *own)
    assert early.exit_code == 1
    assert "Wait; `unmask federated status`" in early.output
    assert not (checkout / ".federated/submissions").exists()
    finish(net, scores={"coverage-lab": 1.0, "coverage-clinic": 1.0, "log_loss-lab": 0.3})
    net.exports = False
    got = type_in("fetch", *own)
    assert got.exit_code == 0, got.output
    board = type_in("leaderboard")
    assert "single-lab     lab         0.4000" in board.stdout
    assert len(read_all(checkout / ".federated/submissions")) == 2
    [one, *_] = [task for task in net.tasks.values() if task["tag"] == "train-1-lab"]
    one["status"] = "STATUS_FAILED"
    failed = type_in("status", *own)
    assert failed.exit_code == 1
    assert "train-1-lab failed at lab" in failed.output
    outputs = [each.output for each in (would, sent, again, shown, early, got, board, failed)]
    assert_no_secret("".join(outputs) + caplog.text, checkout)


@pytest.mark.usefixtures("checkout")
def test_an_owner_registers_by_the_command(net):
    own = ["--config", "organisations.yaml"]
    done = type_in("register", *own, "--organisation", "clinic")
    assert done.exit_code == 0, done.output
    assert done.stdout == "5 registered, 0 were there: .federated/assets_keys.json\n"
    assert {who for who, _, _, _, _ in net.calls} == {"clinic"}
    wrong = type_in("register", *own, "--organisation", "clinik")
    assert wrong.exit_code == 1
    assert "clinik; it is not in organisations.yaml; did you mean clinic?" in wrong.output


@pytest.mark.parametrize("command", ["submit", "status", "fetch"])
def test_no_configuration_is_an_error_and_never_a_local_run(net, checkout, command):
    done = type_in(command, "--config", "none.yaml")
    assert done.exit_code == 1
    assert "Nothing was run or sent" in done.output
    assert type_in(command).exit_code == 2
    assert net.calls == []
    assert not (checkout / ".federated").exists()


@pytest.mark.usefixtures("checkout")
def test_without_a_secret_nothing_is_sent(net, monkeypatch):
    monkeypatch.delenv("SUBSTRA_LAB_TOKEN")
    done = type_in("submit", "--config", "organisations.yaml")
    assert done.exit_code == 1
    assert "nothing here opens lab's node" in done.output
    assert net.calls == []
    # What would be sent can be seen without one.
    done = type_in("submit", "--config", "organisations.yaml", "--dry-run")
    assert done.exit_code == 0
