"""Published detectors become models' folders, from files in their originals' own form."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from fake_hub import COMMIT, Hub, serve_hub
from safetensors.torch import load_file, save_file

from unmask import params
from unmask.cli.main import main
from unmask.errors import WeightsError
from unmask.models import checkpoint
from unmask.models.adopt import adoption, registry
from unmask.models.adopt.adapter import Crop
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.models.predict import Predictor


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file as the authors of Community Forensics published theirs, with random weights."""
    torch.manual_seed(3)
    net = timm.create_model("vit_small_patch16_384", num_classes=1, weight_init="skip")
    with torch.no_grad():
        for name, value in net.named_parameters():
            is_scale = value.dim() == 1 and name.endswith("weight")
            value.copy_(torch.randn(value.shape) * 0.03 + is_scale)
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file({f"vit.{name}": value for name, value in net.state_dict().items()}, path)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["adopt", *map(str, words)])


def line(result: Result) -> str:
    """Return the one line that a failure printed."""
    assert result.exit_code == 1, result.output
    (said,) = [row for row in result.output.splitlines() if row.startswith("Error: ")]
    assert "Traceback" not in result.output
    return said


def test_an_adopted_net_answers_as_timm_does(published: Path, tmp_path: Path) -> None:
    result = run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    assert result.exit_code == 0, result.output
    predictor = Predictor.load(tmp_path / "cf")
    assert predictor.checkpoint.geometry.side_px == 384
    picture = torch.rand(2, 3, 384, 384)
    logits = list(predictor.score_clips(((picture - MEAN) / DEVIATION)[:, :, None]))

    original = timm.create_model("vit_small_patch16_384", num_classes=1, weight_init="skip")
    state = checkpoint.load_net(tmp_path / "cf", predictor.checkpoint).image.state_dict()
    original.load_state_dict(state)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        expected = original.eval()((picture - mean) / deviation)[:, 0]
    assert expected[0] != pytest.approx(float(expected[1]), abs=1e-3)
    assert logits == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_fresh_adoption_promises_nothing(published: Path, tmp_path: Path) -> None:
    run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    settings = checkpoint.read_settings(tmp_path / "cf")
    assert (settings.limits.fake_from, settings.limits.real_to) == (None, None)
    assert settings.adopted is not None
    assert settings.adopted.licence.weights == "MIT"
    card = (tmp_path / "cf" / checkpoint.CARD).read_text()
    assert f"sha256 {settings.adopted.sha256}" in card
    assert "- Weights: MIT" in card


def test_a_trained_models_folder_says_nothing_of_adoption(published: Path, tmp_path: Path) -> None:
    """Folders of the present format have no `adopted`, and a `model` that params can name."""
    run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    path = tmp_path / "cf" / checkpoint.SETTINGS
    values = json.loads(path.read_text())
    del values["adopted"]
    values["model"] = {
        "backbone": "x3d_xs", "weights": "none", "weights_sha256": None, "dropout": 0.5
    }  # fmt: skip
    path.write_text(json.dumps(values))
    assert checkpoint.read_settings(tmp_path / "cf").adopted is None
    assert checkpoint.read_settings(tmp_path / "cf").model.backbone == "x3d_xs"


def test_terms_that_are_not_for_everybody_must_be_accepted(tmp_path: Path) -> None:
    adapter = registry.by_name("sbi-efficientnet-b4")
    with pytest.raises(WeightsError, match="add --accept-licence"):
        adoption.check_licence(adapter, accept_licence=False)
    said = line(run(tmp_path / "FFraw.tar", "--adapter", adapter.name, "--as", tmp_path / "sbi"))
    assert "research only" in said
    assert not (tmp_path / "sbi").exists()


# ---------------------------------------------------------------- from the Hub


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on loopback with the file in its repository, and an empty cache."""
    from huggingface_hub import constants

    files = {"model.safetensors": published}
    with serve_hub(Hub({"OwensLab/commfor-model-384": files}, gated={"a/secret"})) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def left_in(folder: Path) -> list[str]:
    """Return what lies there beside the cache."""
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


def test_a_repository_of_the_hub_is_adopted_at_its_commit(
    hub: Hub, published: Path, tmp_path: Path
) -> None:
    result = run("hf:OwensLab/commfor-model-384", "--as", tmp_path / "cf")
    assert result.exit_code == 0, result.output
    adopted = checkpoint.read_settings(tmp_path / "cf").adopted
    assert adopted is not None
    assert (adopted.source, adopted.commit) == ("hf:OwensLab/commfor-model-384", COMMIT)
    assert adopted.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()
    # Once more by its commit: the cache answers, and what stands is left as it is.
    before = (tmp_path / "cf" / checkpoint.SETTINGS).stat().st_mtime_ns
    hub.asked.clear()
    again = run(f"hf:OwensLab/commfor-model-384@{COMMIT}", "--as", tmp_path / "cf")
    assert again.exit_code == 0, again.output
    assert hub.asked == []
    assert (tmp_path / "cf" / checkpoint.SETTINGS).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:a/secret", "gives it only to those who asked"),
        ("hf:a/none", "knows no such repository"),
        ("hf:OwensLab/commfor-model-384@nobranch", "no such commit, branch or tag"),
        ("hf:OwensLab", "is named hf:OWNER/NAME"),
        ("hf:../x", "is named hf:OWNER/NAME"),
        ("hf:OwensLab/commfor-model-384@../x", "is named hf:OWNER/NAME"),
        ("ftp://example.org/x", "known are hf:OWNER/NAME"),
        ("http://example.org/model.safetensors", "Name an https address"),
        ("https://example.org/model.safetensors", "Say what is meant by --sha256"),
        ("nowhere/model.safetensors", "there is no such file"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_can_not_be_had_is_one_line(source: str, said: str, tmp_path: Path) -> None:
    result = run(source, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    assert said in line(result)
    assert left_in(tmp_path) == []


def test_half_a_file_is_told_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.cut_off_at = 1000
    said = line(run("hf:OwensLab/commfor-model-384", "--as", tmp_path / "cf"))
    assert "did not arrive whole" in said
    assert left_in(tmp_path) == []


def test_without_a_network_what_was_fetched_is_enough(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    assert run("hf:OwensLab/commfor-model-384", "--as", tmp_path / "first").exit_code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    again = run("hf:OwensLab/commfor-model-384", "--as", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert hub.asked == []
    hub.repositories["a/other"] = {}
    said = line(run("hf:a/other", "--adapter", "community-forensics-384", "--as", tmp_path / "x"))
    assert "was not fetched before" in said
    assert left_in(tmp_path) == ["again", "first"]


def test_another_digest_than_asked_for_is_refused(
    hub: Hub, published: Path, tmp_path: Path
) -> None:
    wrong = "0" * 64
    for source in ("hf:OwensLab/commfor-model-384", str(published)):
        words = (source, "--adapter", "community-forensics-384", "--sha256", wrong)
        said = line(run(*words, "--as", tmp_path / "cf"))
        assert f"should have the sha256 {wrong}" in said
    address = f"{hub.address}/OwensLab/commfor-model-384/resolve/main/model.safetensors"
    said = line(run(address, "--adapter", "community-forensics-384", "--sha256", wrong))
    assert "nothing was kept" in said
    assert left_in(tmp_path) == []


def test_an_address_with_its_digest_is_fetched_once(
    hub: Hub, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    address = f"{hub.address}/OwensLab/commfor-model-384/resolve/main/model.safetensors?token=xyz"
    for name in ("first", "again"):
        result = run(
            address, "--adapter", "community-forensics-384", "--sha256", digest,
            "--as", tmp_path / name,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "xyz" not in result.output
    assert len(hub.asked) == 1
    assert "xyz" not in (tmp_path / "first" / checkpoint.SETTINGS).read_text()


# ---------------------------------------------------------------- files that are damaged or others


class Runs:
    """What a pickle runs when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("was-run"),))  # type: ignore[return-value]  # only stored


def test_a_pickle_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Runs()}, tmp_path / "evil.pth")
    said = line(run("evil.pth", "--adapter", "deepfakebench-xception", "--accept-licence"))
    assert "is not done" in said
    assert "weights_only=False" not in said
    assert left_in(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "empty.pth", "text.pth"])
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path, published: Path) -> None:
    path = tmp_path / name
    if name == "cut.safetensors":
        path.write_bytes(published.read_bytes()[:-1000])
    elif name == "cut.pth":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:-600])
    else:
        path.write_bytes(b"" if name == "empty.pth" else b"<html>not found</html>")
    said = line(run(path, "--adapter", "community-forensics-384", "--as", tmp_path / "cf"))
    assert name in said
    assert left_in(tmp_path) == [name]


def test_renamed_tensors_are_named(published: Path, tmp_path: Path) -> None:
    tensors = load_file(published)
    tensors["vit.heads.weight"] = tensors.pop("vit.head.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    said = line(
        run(tmp_path / "model.safetensors", "--adapter", "community-forensics-384", "--as",
            tmp_path / "cf")
    )  # fmt: skip
    assert "1 missing (head.weight); 1 unknown (heads.weight)" in said
    assert left_in(tmp_path) == ["model.safetensors"]


def test_another_nets_file_names_what_was_expected(published: Path, tmp_path: Path) -> None:
    words = (published, "--adapter", "gend-clip-l-14", "--as", tmp_path / "x")
    said = line(run(*words))
    assert "should be named feature_extractor.vision_model." in said
    assert "vit." in said


def test_a_full_disk_leaves_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.runtime import disk

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # The last step of every file: its bytes are written, and the system refuses.
    monkeypatch.setattr(disk.os, "fsync", full)
    said = line(run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf"))
    assert "No space left" in said
    assert left_in(tmp_path) == []


def test_an_abandoned_folder_is_deleted_and_nothing_else_of_its_name(tmp_path: Path) -> None:
    left, pipe, link, file = (tmp_path / f".cf.{digit * 16}.partial" for digit in "0123")
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "whole").mkdir()
    link.symlink_to(tmp_path / "whole")
    file.write_text("a note")
    os.mkfifo(pipe)  # who opens it waits for a writer
    code = f"""
from pathlib import Path
from unmask.models.adopt import adoption
adoption._delete_abandoned(Path({str(tmp_path / "cf")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert sorted(tmp_path.iterdir()) == sorted([pipe, link, file, tmp_path / "whole"])


def test_what_stands_in_the_place_is_never_replaced(published: Path, tmp_path: Path) -> None:
    (tmp_path / "cf").mkdir()
    (tmp_path / "cf" / "notes.txt").write_text("mine")
    said = line(run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf"))
    assert "something else is there" in said
    assert (tmp_path / "cf" / "notes.txt").read_text() == "mine"


def test_an_unknown_adapter_has_a_near_one(published: Path) -> None:
    said = line(run(published, "--adapter", "gend-clip-l14"))
    assert "did you mean gend-clip-l-14?" in said


# ---------------------------------------------------------------- a description, no adapter


SPEC = """\
name: my-detector
title: A net of ours
net: resnet10t
prefix: "module.net."
outputs: 3
fake: [0, 2]
mean: [0.5, 0.5, 0.5]
deviation: [0.25, 0.25, 0.25]
pooling: probabilities
side_px: 96
margin_ratio: 0.25
licence: {code: MIT, weights: CC BY-NC 4.0, free: false, why: Not for commerce.}
trained_on: Pictures of our own.
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """Return a file of weights with its description beside it."""
    torch.manual_seed(1)
    net = timm.create_model("resnet10t", num_classes=3)
    (tmp_path / "there").mkdir()
    named = {f"module.net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": named, "epoch": 3}, tmp_path / "there" / "net.pth")
    (tmp_path / "there" / "unmask.yaml").write_text(SPEC)
    return tmp_path / "there" / "net.pth"


def test_a_net_is_described_without_code(described: Path, tmp_path: Path) -> None:
    assert "add --accept-licence" in line(run(described, "--as", tmp_path / "mine"))
    result = run(described, "--as", tmp_path / "mine", "--accept-licence")
    assert result.exit_code == 0, result.output
    predictor = Predictor.load(tmp_path / "mine")
    assert predictor.checkpoint.faces.margin_ratio == 0.25
    assert predictor.checkpoint.licence == "CC BY-NC 4.0"
    card = (tmp_path / "mine" / checkpoint.CARD).read_text()
    assert "- Accepted by whoever adopted it here" in card
    picture = torch.rand(1, 3, 96, 96)
    (logit,) = predictor.score_clips(((picture - MEAN) / DEVIATION)[:, :, None])
    original = timm.create_model("resnet10t", num_classes=3)
    held = torch.load(described, weights_only=True)["state_dict"]
    original.load_state_dict({k.removeprefix("module.net."): v for k, v in held.items()})
    with torch.inference_mode():
        chances = original.eval()((picture - 0.5) / 0.25).softmax(1)[0]
    fake = float(chances[0] + chances[2])
    assert logit == pytest.approx(torch.tensor(fake / (1 - fake)).log().item(), abs=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("outputs: 3", "outputs: 2", "fake names outputs 0 to 1"),
        ("net: resnet10t", "net: resnet_of_nobody", "has none of that name"),
        ("pooling: probabilities", "pooling: median", "pooling"),
        ("side_px: 96\n", "", "side_px: Field required"),
        ("trained_on:", "unknown_key:", "unknown_key"),
        ("name: my-detector", "name: [", "is not YAML"),
        ("net: resnet10t", "net: resnet10t\noptions: {checkpoint_path: /etc/passwd}", "options"),
    ],
)
def test_a_wrong_description_is_one_line(
    old: str, new: str, said: str, described: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace(old, new))
    words = (described, "--spec", spec, "--as", tmp_path / "mine", "--accept-licence")
    assert said in line(run(*words))
    assert not (tmp_path / "mine").exists()


# ---------------------------------------------------------------- afterwards


def test_a_folder_with_other_weights_than_it_says_is_refused(
    described: Path, tmp_path: Path
) -> None:
    run(described, "--as", tmp_path / "mine", "--accept-licence")
    path = tmp_path / "mine" / checkpoint.SETTINGS
    values = json.loads(path.read_text())
    values["adopted"]["architecture"]["net"] = "vit_7b_patch16_dinov3"  # 27 GB, were it built
    path.write_text(json.dumps(values))
    settings = checkpoint.read_settings(tmp_path / "mine")
    with pytest.raises(WeightsError, match=r"tensors differ .* Adopt it again"):
        checkpoint.load_net(tmp_path / "mine", settings)


def test_published_answers_are_compared(published: Path, tmp_path: Path) -> None:
    """Random weights don't give the published answers: that is told, and exits with 1."""
    from unmask.models.adopt import check
    from unmask.models.adopt.adapter import Check, Reference

    picture = np.random.default_rng(1).integers(0, 255, (500, 460, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    digest = hashlib.sha256((tmp_path / "picture.png").read_bytes()).hexdigest()
    (tmp_path / "fetched").mkdir()
    (tmp_path / "picture.png").rename(tmp_path / "fetched" / digest)
    run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    net = checkpoint.load_net(tmp_path / "cf", checkpoint.read_settings(tmp_path / "cf"))

    def ask(probability: float | None) -> list[check.Compared]:
        reference = Reference("https://example.org/p.png", digest, probability, is_fake=True)
        wanted = Check((reference,), 440, 384, 0.02, "a made-up page")
        return list(check.compare(net, wanted, tmp_path))

    (found,) = ask(None)
    assert found.agrees is None
    assert ask(found.probability + 0.019)[0].agrees
    assert ask(found.probability - 0.021)[0].agrees is False

    resized = cv2.resize(picture, (440, 478), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    middle = resized[47:431, 28:412].copy()  # of 478 and 440, 384
    tensor = torch.from_numpy(middle).permute(2, 0, 1).float() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        expected = net.image(((tensor - mean) / deviation)[None]).sigmoid()
    assert found.probability == pytest.approx(float(expected), abs=0.02)


def test_where_nothing_is_published_it_says_so(described: Path, tmp_path: Path) -> None:
    words = (described, "--as", tmp_path / "mine", "--accept-licence", "--check")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "Nobody has checked" in result.output


@pytest.mark.slow
def test_the_command_itself_asks_the_hub_that_the_environment_names(
    published: Path, tmp_path: Path
) -> None:
    with serve_hub(Hub({"OwensLab/commfor-model-384": {"model.safetensors": published}})) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "unmask", "adopt", "hf:OwensLab/commfor-model-384"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "adopted" / "community-forensics-384" / checkpoint.WEIGHTS).is_file()
    assert all("agent" not in path for _, path in hub.asked)


def test_crops_are_found_as_params_find_them() -> None:
    """Whoever adopts may have no params.yaml; but for side and margin it is the sample's."""
    settings = params.load(Path(__file__).parents[3] / "params.yaml").faces
    faces = Crop(side_px=settings.side_px, margin_ratio=settings.margin_ratio).faces()
    assert faces == settings


def test_crops_of_another_kind_are_not_evaluated(described: Path, tmp_path: Path) -> None:
    run(described, "--as", tmp_path / "mine", "--accept-licence")
    settings = checkpoint.read_settings(tmp_path / "mine")
    checkpoint.check_crops(settings, settings.faces)
    with pytest.raises(WeightsError, match=r"expects faces of 96 px .* made with 256 px"):
        checkpoint.check_crops(settings, settings.faces.model_copy(update={"side_px": 256}))


PLUGIN = """
import torch

from unmask.models.adopt.adapter import Adapter, Converted, Crop
from unmask.models.adopt.record import Architecture, Licence


def build(architecture):
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, architecture.outputs)
    )


def convert(published):
    architecture = Architecture(
        net="plugin:mean-colour", outputs=1, fake=(0,), mean=(0.0, 0.0, 0.0),
        deviation=(1.0, 1.0, 1.0), pooling="logits",
    )
    return Converted(architecture, dict(published.tensors), Crop(64, 0.1))


ADAPTER = Adapter(
    name="mean-colour", title="The mean colour", repositories=(), files=(),
    licence=Licence(code="MIT", weights="MIT", free=True), trained_on="", published="", read="",
    differs="", untried="", convert=convert,
)
"""


def test_an_installed_package_brings_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its net is the mean colour times (1, 2, 4), plus 1: .1 + .4 + 1.2 + 1."""
    site = tmp_path / "site"
    (site / "mean_colour-1.0.dist-info").mkdir(parents=True)
    (site / "mean_colour.py").write_text(PLUGIN)
    (site / "mean_colour-1.0.dist-info" / "METADATA").write_text(
        "Name: mean-colour\nVersion: 1.0\n"
    )
    (site / "mean_colour-1.0.dist-info" / "entry_points.txt").write_text(
        "[unmask.adapters]\nmean-colour = mean_colour\n"
    )
    weights = {"2.weight": torch.tensor([[1.0, 2.0, 4.0]]), "2.bias": torch.tensor([1.0])}
    save_file(weights, tmp_path / "net.safetensors")
    words = (tmp_path / "net.safetensors", "--adapter", "mean-colour", "--as", tmp_path / "mine")
    assert "there is none of that name" in line(run(*words))
    monkeypatch.syspath_prepend(site)
    result = run(*words)
    assert result.exit_code == 0, result.output
    picture = torch.tensor([0.1, 0.2, 0.3])[None, :, None, None].expand(1, 3, 64, 64)
    clip = ((picture - MEAN) / DEVIATION)[:, :, None]
    (logit,) = Predictor.load(tmp_path / "mine").score_clips(clip)
    assert logit == pytest.approx(2.7, abs=1e-5)
