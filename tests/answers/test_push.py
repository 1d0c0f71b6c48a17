"""Models pushed to a Hub on loopback: what goes there, what may not, what it says."""

import json
import os

import pytest
import yaml
from click.testing import CliRunner
from fake_hub import Commit, Hub, ask_only, serve_hub
from small_model import NO_FREE_LICENCE, write_small_model

from unmask.answers import model_source, push
from unmask.cli.main import main
from unmask.errors import WeightsError
from unmask.runtime.digests import model_digest

PLAIN = [".gitattributes", "README.md", "checkpoint.json", "net.onnx", "weights.safetensors"]
CALIBRATED = [f"calibration/{n}" for n in ("MODEL_CARD.md", "checkpoint.json", "looks.safetensors")]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub, the token that may write to it, and a working folder with a model."""
    with serve_hub(Hub(tokens={"hf_writes"}, readers={"hf_reads"})) as hub:
        ask_only(hub, tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", "hf_writes")
        monkeypatch.chdir(tmp_path)
        write_small_model(tmp_path / "model")
        yield hub


def run(*words):
    result = CliRunner().invoke(main, ["push", *map(str, words)])
    assert "Traceback" not in result.output
    assert "hf_writes" not in result.output
    return result


def pushed(*words):
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(*words):
    """Return the one line that a failure printed."""
    result = run(*words)
    assert result.exit_code == 1, result.output
    [line] = [row for row in result.output.splitlines() if row.startswith("Error: ")]
    return line


def test_a_model_goes_there_in_one_commit_and_comes_back_the_same(hub, tmp_path):
    result = pushed("hf:ada/detector", "--message", "The first one")
    initial, commit = hub.pushed["ada/detector"]
    assert result.stdout == f"hf:ada/detector@{commit.sha}\n"
    assert (initial.message, commit.message) == ("initial commit", "The first one")
    assert sorted(commit.files) == PLAIN
    assert "ada/detector" not in hub.private
    model = tmp_path / "model"
    for name in ("weights.safetensors", "net.onnx", "checkpoint.json"):
        assert commit.files[name] == (model / name).read_bytes()
    card = commit.files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {"license": "apache-2.0", "library_name": "unmask"}
    assert card.endswith("# A small model\n\nFor tests.\n")
    folder = model_source.named(result.stdout.strip(), None, cache=tmp_path / "cache")
    assert model_digest(folder) == model_digest(model)


def test_the_hub_itself_reads_the_cards_head(hub):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    pushed("hf:ada/detector")
    card = hub.pushed["ada/detector"][-1].files["README.md"].decode()
    assert huggingface_hub.ModelCard(card).data.library_name == "unmask"


def test_nothing_else_that_lies_in_the_folder_goes(hub, tmp_path):
    model = tmp_path / "model"
    for name in ("history.csv", "evil.pkl", "optimizer.pt", ".env", "calibration/secret.csv"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("secret")
    (model / "link.safetensors").symlink_to("/etc/passwd")
    (model / "calibration/checkpoint.json").write_text("{}")  # of a model without a promise
    result = pushed("hf:ada/detector")
    assert sorted(hub.pushed["ada/detector"][-1].files) == PLAIN
    assert "Stays here: .env, calibration/checkpoint.json, calibration/secret.csv" in result.stderr
    assert "and 2 more" in result.stderr


def test_pushed_again_it_makes_no_second_commit(hub):
    first = pushed("hf:ada/detector").stdout
    again = pushed("hf:ada/detector")
    assert again.stdout == first
    assert "no commit was made" in again.stderr
    assert len(hub.pushed["ada/detector"]) == 2  # the repository's own, and one


def test_a_changed_model_replaces_all_of_the_one_before(hub, tmp_path):
    write_small_model(tmp_path / "calibrated", calibrated=True)
    result = pushed("hf:ada/detector", "--model", "calibrated")
    assert sorted(hub.pushed["ada/detector"][-1].files) == sorted([*PLAIN, *CALIBRATED])
    assert "reads how it was calibrated: unmask calibrate made" in result.stderr
    pushed("hf:ada/detector")  # which was never calibrated
    assert len(hub.pushed["ada/detector"]) == 3
    assert sorted(hub.pushed["ada/detector"][-1].files) == PLAIN
    assert hub.pushed["ada/detector"][-1].message.startswith("Model ")


def test_a_dry_run_lists_and_asks_nobody(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    result = pushed("hf:ada/detector", "--dry-run")
    names = [line.split()[1] for line in result.stdout.splitlines()]
    assert names == ["README.md", "checkpoint.json", "weights.safetensors", "net.onnx"]
    assert "Nothing was sent to hf:ada/detector" in result.stderr
    assert hub.asked == []


def test_a_private_repository_is_private_or_nothing_goes(hub):
    pushed("hf:ada/hidden", "--private")
    assert "ada/hidden" in hub.private
    pushed("hf:ada/hidden", "--private")
    pushed("hf:ada/open")
    said = refused("hf:ada/open", "--private", "--message", "x")
    assert "it is there and public" in said
    assert len(hub.pushed["ada/open"]) == 2


# ---------------------------------------------------------------- whose weights they are


def test_weights_that_not_everybody_may_pass_on_need_a_word(hub, tmp_path):
    write_small_model(tmp_path / "theirs", licence=NO_FREE_LICENCE)
    said = refused("hf:ada/theirs", "--model", "theirs")
    assert "research only (So it says)" in said
    assert "add --may-pass-on" in said
    assert hub.asked == []
    result = pushed("hf:ada/theirs", "--model", "theirs", "--may-pass-on")
    assert "Terms of the weights: research only" in result.stderr
    card = hub.pushed["ada/theirs"][-1].files["README.md"].decode()
    assert "## Passed on\n\nThe weights are not for everybody: research only (So it says)." in card
    # Who takes it and pushes it on says the same once.
    name = result.stdout.strip()
    pushed("hf:bob/theirs", "--model", name, "--may-pass-on")
    assert hub.pushed["bob/theirs"][-1].files["README.md"].decode().count("## Passed on") == 1


def test_free_weights_of_others_need_none_and_their_licence_stands_there(hub, tmp_path):
    free = {"code": "MIT", "weights": "MIT", "free": True, "why": ""}
    model = write_small_model(tmp_path / "theirs", licence=free)
    (model / "MODEL_CARD.md").write_text("# No head\n")
    pushed("hf:ada/theirs", "--model", "theirs")
    card = hub.pushed["ada/theirs"][-1].files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "mit"
    assert head["tags"][-1] == "x3d_xs"


@pytest.mark.usefixtures("hub")
def test_a_training_from_weights_without_a_licence_needs_a_word_too(tmp_path):
    path = tmp_path / "model" / "checkpoint.json"
    settings = json.loads(path.read_text())
    settings["model"]["weights"] = "kinetics400"
    path.write_text(json.dumps(settings))
    assert "names no licence of its weights" in refused("hf:ada/detector")
    pushed("hf:ada/detector", "--may-pass-on")


# ---------------------------------------------------------------- what is refused


def test_without_a_token_nothing_is_asked(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token. Set HF_TOKEN" in refused("hf:ada/detector")
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_the_token_of_a_file_that_the_environment_names_serves(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text("hf_writes\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    pushed("hf:ada/detector")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "folder"))
    assert "file can't be read" in refused("hf:ada/detector")


@pytest.mark.parametrize(
    ("token", "said"),
    [("hf_wrong", "does not accept the token"), ("hf_reads", "the token may not do that")],
)
def test_a_token_that_may_not_is_said_and_not_shown(hub, monkeypatch, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    line = refused("hf:ada/detector")
    assert said in line
    assert token not in line
    assert hub.pushed == {}


@pytest.mark.usefixtures("hub")
def test_no_network_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "it can't be reached" in refused("hf:ada/detector")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in refused("hf:ada/detector")


@pytest.mark.parametrize("at", ["repos/create", "preupload", "objects/batch", "large/", "/commit/"])
def test_a_push_that_fails_midway_changes_nothing_and_goes_on(hub, monkeypatch, at):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.failing[at] = 500
    assert "does not answer now (status 500)" in refused("hf:ada/detector")
    assert [each.message for each in hub.pushed.get("ada/detector", [])] in (
        [], ["initial commit"]
    )  # fmt: skip
    hub.failing.clear()
    pushed("hf:ada/detector")
    assert len(hub.pushed["ada/detector"]) == 2


def test_somebody_elses_commit_meanwhile_is_not_overwritten(hub, monkeypatch):
    pushed("hf:ada/detector")
    send = push.client.commit

    def be_second(address, *words, **more):
        now = hub.pushed["ada/detector"][-1]
        hub.pushed["ada/detector"].append(Commit("e" * 40, {**now.files, "x": b""}, "other"))
        return send(address, *words, **more)

    monkeypatch.setattr(push.client, "commit", be_second)
    hub.pushed["ada/detector"][-1].files["README.md"] = b"changed by hand"
    assert "somebody else has changed the repository" in refused("hf:ada/detector")
    assert hub.pushed["ada/detector"][-1].message == "other"


def test_a_repository_of_something_else_is_left_alone(hub):
    hub.pushed["ada/other"] = [Commit("d" * 40, {"pytorch_model.bin": b"theirs"}, "theirs")]
    assert "it holds 'pytorch_model.bin' and no model of unmask's" in refused("hf:ada/other")
    assert len(hub.pushed["ada/other"]) == 1


def test_a_gitignore_there_that_leaves_files_out_is_found(hub):
    hub.ignored = {"weights.safetensors"}
    assert "does not hold all that was sent" in refused("hf:ada/detector")


def test_what_is_no_whole_model_of_this_version_stays_here(hub, tmp_path):
    model = tmp_path / "model"
    whole = {path.name: path.read_bytes() for path in model.iterdir()}
    settings = json.loads(whole["checkpoint.json"])
    for name, content, said in [
        ("checkpoint.json", json.dumps(settings | {"format": 4}).encode(), "has format 4"),
        ("weights.safetensors", b"\x80\x04cos\nsystem\n", "no file of safetensors"),
        ("net.onnx", b"another", "should have the sha256"),
        ("MODEL_CARD.md", None, "has no MODEL_CARD.md"),
        ("MODEL_CARD.md", b"---\na: [\n---\n", "can't be read"),
        ("MODEL_CARD.md", b"# \xff\xfe", "can't be read"),
        ("MODEL_CARD.md", b"#" * 300_000, "can't be read"),
    ]:
        (model / name).unlink() if content is None else (model / name).write_bytes(content)
        assert said in refused("hf:ada/detector"), name
        (model / name).write_bytes(whole[name])
    assert "is not there" in refused("hf:ada/detector", "--model", "gone")
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_weights_of_another_model_are_not_pushed(tmp_path):
    other = write_small_model(tmp_path / "other", seed=9)
    os.replace(other / "weights.safetensors", tmp_path / "model" / "weights.safetensors")
    assert "made of other weights" in refused("hf:ada/detector")


@pytest.mark.usefixtures("hub")
def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a key")
    (tmp_path / "model" / "MODEL_CARD.md").unlink()
    (tmp_path / "model" / "MODEL_CARD.md").symlink_to(secret)
    assert "MODEL_CARD.md is a link to another place" in refused("hf:ada/detector")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hf:ada/detector@main",), "leave the @ out"),
        (("hf:ada/detector", "--message", " "), "takes 1 to 500"),
        (("hf:ada/detector", "--message", "x" * 501), "takes 1 to 500"),
    ],
)
def test_what_is_mistyped_is_said(hub, words, said):
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.output
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_a_wrong_name_is_one_line():
    assert "is named hf:OWNER/NAME" in refused("hf:ada")
    assert "is named hf:OWNER/NAME" in refused("ada/detector")


def test_the_terms_are_known_without_a_card(tmp_path):
    model = write_small_model(tmp_path / "m", licence=NO_FREE_LICENCE)
    (model / "net.onnx").unlink()
    with pytest.raises(push.PushError, match="research only"):
        push.pack(model, may_pass_on=False)
    with pytest.raises(WeightsError):
        push.pack(tmp_path, may_pass_on=True)
