"""Every X3D of the table against PyTorchVideo's own; weights from files and a real server."""

import hashlib
import http.server
import io
import logging
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest
import sklearn
import torch
from safetensors.torch import save_file
from torch import nn

from unmask.errors import WeightsError
from unmask.geometry import GEOMETRIES, PRETRAINED
from unmask.models import backbones
from unmask.models.backbones import BACKBONES, VideoRow, WeightsInfo, build, load_weights
from unmask.models.frame_net import DEVIATION, MEAN, FrameNet

State = dict[str, torch.Tensor]

HEAD = "blocks.5.proj.weight", "blocks.5.proj.bias"

# Frames, sampling rate at 30 frames/s, side and depth: Feichtenhofer, CVPR 2020, table 3, as
# PyTorchVideo's hub has them; millions of parameters with Kinetics' 400 classes: its model zoo.
PUBLISHED = {
    "x3d_xs": (4, 12, 182, 2.2, 3.79),
    "x3d_s": (13, 6, 182, 2.2, 3.79),
    "x3d_m": (16, 5, 256, 2.2, 3.79),
    "x3d_l": (16, 5, 312, 5.0, 6.15),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "x3d_l" else name for name in PUBLISHED
]


def upstream(name: str, frames: int, side_px: int, *, classes: int = 2, **other: Any) -> nn.Module:
    """Return PyTorchVideo's X3D, whose head pools with a kernel fixed for one geometry."""
    net: nn.Module = backbones.create_x3d(
        input_clip_length=frames, input_crop_size=side_px, model_num_class=classes,
        dropout_rate=0.5, depth_factor=PUBLISHED[name][3], **other,
    )  # fmt: skip
    return net


def seeded(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a value of its own, so that no tensor can be mistaken."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(seed + 1)
        else:
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    return net


@pytest.fixture(scope="module")
def xs() -> State:
    """The state of an X3D-XS with two classes, different from any fresh one."""
    return dict(seeded(build("x3d_xs", dropout=0.5)).state_dict())


@pytest.fixture(scope="module")
def kinetics() -> State:
    """The same net with 400 classes, as the model zoo's files hold it."""
    return dict(seeded(upstream("x3d_xs", 4, 64, classes=400), 1).state_dict())


@pytest.fixture
def net() -> nn.Module:
    return build("x3d_xs", dropout=0.5)


def copied(net: nn.Module) -> State:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(state: State, other: State, *, but: tuple[str, ...] = ()) -> bool:
    assert state.keys() == other.keys()
    return all(torch.equal(state[name], other[name]) for name in state if name not in but)


# ---------------------------------------------------------------- nets


def test_the_table_is_the_published_one() -> None:
    videos = [name for name, row in BACKBONES.items() if isinstance(row, VideoRow)]
    assert videos == list(PUBLISHED)
    assert list(BACKBONES) == list(GEOMETRIES) == list(PRETRAINED)
    for name, (_, _, _, depth, _) in PUBLISHED.items():
        row = BACKBONES[name]
        assert isinstance(row, VideoRow)
        assert row.depth_factor == depth
        assert row.kinetics_file == f"{name.upper()}.pyth"


@pytest.mark.parametrize("name", NAMES)
def test_a_net_is_upstreams_with_two_logits_and_free_pooling(name: str) -> None:
    ours = seeded(build(name, dropout=0.5)).eval()
    millions = (sum(p.numel() for p in ours.parameters()) + 398 * 2049) / 1e6
    assert round(millions, 2) == PUBLISHED[name][4]

    for frames, side_px in ((3, 64), (5, 90)):
        theirs = upstream(name, frames, side_px).eval()
        theirs.load_state_dict(ours.state_dict())  # all names and shapes, none left over
        clips_BCTHW = torch.randn(2, 3, frames, side_px, side_px)
        with torch.inference_mode():
            logits_B2, scores_B2 = ours(clips_BCTHW), theirs(clips_BCTHW)
        assert logits_B2.shape == (2, 2)
        # Upstream's head ends in a softmax; ours must not.
        torch.testing.assert_close(torch.softmax(logits_B2, 1), scores_B2)
        assert not torch.allclose(logits_B2.sum(1), torch.ones(2), atol=1e-3)
        # A bias moves a logit by as much as it grows, which no softmax lets it.
        with torch.inference_mode():
            head = backbones.blocks(ours)[-1]
            head.proj.bias -= torch.tensor([0.0, 7.0])
            moved_B2 = ours(clips_BCTHW)
            head.proj.bias += torch.tensor([0.0, 7.0])
        torch.testing.assert_close(moved_B2, logits_B2 - torch.tensor([0.0, 7.0]))
        assert (moved_B2[:, 1] < 0).all()


def test_pooling_equals_upstreams_at_the_nets_own_geometry() -> None:
    own = GEOMETRIES["x3d_xs"]
    ours = seeded(build("x3d_xs", dropout=0.5)).eval()
    theirs = upstream("x3d_xs", own.frames, own.side_px, head_activation=None).eval()
    theirs.load_state_dict(ours.state_dict())
    clips_BCTHW = torch.randn(2, 3, own.frames, own.side_px, own.side_px)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clips_BCTHW), theirs(clips_BCTHW))


def test_blocks_are_stem_four_stages_and_head(net: nn.Module) -> None:
    parts = backbones.blocks(net)
    assert len(parts) == 6
    assert [len(part.res_blocks) for part in parts[1:5]] == [3, 5, 11, 7]  # 1, 2, 5, 3 x 2.2
    assert tuple(parts[-1].proj.weight.shape) == (2, 2048)
    assert sum(len(list(part.parameters())) for part in parts) == len(list(net.parameters()))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_the_one_asked_for(dropout: float) -> None:
    built = build("x3d_xs", dropout=dropout)
    shares = [module.p for module in built.modules() if isinstance(module, nn.Dropout)]
    assert shares == ([dropout] if dropout else [])


# ---------------------------------------------------------------- weights from a file


def load(net: nn.Module, source: Path | str, **given: Any) -> WeightsInfo:
    options: dict[str, Any] = {"sha256": None, "cache_dir": Path("/nowhere")} | given
    return load_weights(net, str(source), options.pop("name", "x3d_xs"), **options)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_none_leaves_the_net_as_it_is(net: nn.Module) -> None:
    before = copied(net)
    assert load(net, "none") == WeightsInfo("none", None, head=False)
    assert same(copied(net), before)


def test_a_half_precision_file_fills_the_whole_net(
    net: nn.Module, xs: State, tmp_path: Path
) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in xs.items()}
    path = tmp_path / "w.safetensors"
    save_file(halves, path)
    assert load(net, path) == WeightsInfo(str(path), sha256(path), head=True)
    loaded = copied(net)
    assert same(loaded, {k: v.to(xs[k].dtype) for k, v in halves.items()})
    assert loaded[HEAD[0]].dtype == torch.float32


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pyth"])
@pytest.mark.parametrize("key", ["model_state", "state_dict", None])
def test_a_two_class_file_of_torch_is_read_wherever_its_state_stands(
    net: nn.Module, xs: State, tmp_path: Path, suffix: str, key: str | None
) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(xs if key is None else {key: xs, "epoch": 3}, path)
    assert load(net, path) == WeightsInfo(str(path), sha256(path), head=True)
    assert same(copied(net), xs)


def test_a_400_class_head_is_left_out_and_the_fresh_one_kept(
    net: nn.Module, kinetics: State, tmp_path: Path
) -> None:
    path = tmp_path / "X3D_XS.pyth"
    torch.save({"model_state": kinetics, "cfg": "a text"}, path)
    before = copied(net)
    assert load(net, path) == WeightsInfo(str(path), sha256(path), head=False)
    after = copied(net)
    assert all(torch.equal(after[key], before[key]) for key in HEAD)
    with_two_classes = {**kinetics, **{key: before[key] for key in HEAD}}
    assert same(after, with_two_classes)
    assert not same(after, before, but=HEAD)


def test_a_file_without_a_head_keeps_the_fresh_one(
    net: nn.Module, xs: State, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({key: value for key, value in xs.items() if key not in HEAD}, path)
    before = copied(net)
    assert not load(net, path).head
    assert same(copied(net), {**xs, **{key: before[key] for key in HEAD}})


def test_the_digest_is_checked_before_anything_is_loaded(
    net: nn.Module, xs: State, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(xs, path)
    right = sha256(path)
    before = copied(net)
    wrong = "0" * 64
    with pytest.raises(WeightsError, match=f"sha256 {wrong} .*weights_sha256.* has {right}"):
        load(net, path, sha256=wrong)
    assert same(copied(net), before)
    assert load(net, path, sha256=right).sha256 == right
    assert same(copied(net), xs)


def test_a_digest_is_logged_so_that_it_can_be_pinned(
    net: nn.Module, xs: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(xs, path)
    with caplog.at_level(logging.INFO, "unmask.models.backbones"):
        load(net, path)
    assert sha256(path) in caplog.text


def test_a_missing_file_is_named_with_the_other_ways(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"asks for .*gone\.pt; .* `kinetics400`"):
        load(net, tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match="there is no such file"):
        load(net, tmp_path)  # a folder


def test_another_backbones_file_is_refused(net: nn.Module, xs: State, tmp_path: Path) -> None:
    # X3D-L has the layers of X3D-XS and more of them.
    deeper = {
        name.replace("res_blocks.2", f"res_blocks.{block}"): value
        for block in (2, 20)
        for name, value in xs.items()
    }
    path = tmp_path / "w.pt"
    torch.save(deeper, path)
    before = copied(net)
    with pytest.raises(WeightsError, match=r"does not fit x3d_xs: 0 of \d+ .* \d+ are unknown"):
        load(net, path)
    assert same(copied(net), before)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_tensor_that_is_missing_or_misshapen_is_counted(
    net: nn.Module, xs: State, tmp_path: Path, change: str
) -> None:
    name = "blocks.2.res_blocks.0.branch2.conv_a.weight"
    state = dict(xs)
    tensor = state.pop(name)
    if change == "shape":
        state[name] = tensor[1:].contiguous()
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    before = copied(net)
    message = rf"fit x3d_xs: 1 of {len(xs)} .* 0 are unknown \(first: {name}\)"
    with pytest.raises(WeightsError, match=message):
        load(net, path)
    assert same(copied(net), before)


@pytest.mark.slow
def test_x3d_l_and_the_smaller_ones_refuse_each_other(
    net: nn.Module, xs: State, tmp_path: Path
) -> None:
    large = build("x3d_l", dropout=0.5)
    save_file(copied(large), tmp_path / "l.safetensors")
    save_file(xs, tmp_path / "xs.safetensors")
    with pytest.raises(WeightsError, match="does not fit x3d_xs: 0 of"):
        load(net, tmp_path / "l.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit x3d_l: \d+ of \d+ .* 0 are unknown"):
        load(large, tmp_path / "xs.safetensors", name="x3d_l")


# ---------------------------------------------------------------- files that mean harm, or are cut


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("suffix", [".pyth", ".safetensors"])
def test_a_malicious_pickle_is_refused_unrun(
    net: nn.Module, xs: State, tmp_path: Path, form: str, suffix: str
) -> None:
    target = tmp_path / "touched"
    content = {"model_state": xs, "extra": Touch(target)}
    path = tmp_path / f"w{suffix}"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["extra"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    before = copied(net)
    with pytest.raises(WeightsError, match="never unpickled"):
        load(net, path)
    assert not target.exists()
    assert same(copied(net), before)
    # The trap is armed: whoever does unpickle it makes the file.
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert target.exists()


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pyth"])
def test_a_truncated_file_is_refused(
    net: nn.Module, xs: State, tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(xs, path)
    else:
        torch.save({"model_state": xs}, path)
    cut(path, share)
    before = copied(net)
    with pytest.raises(WeightsError, match="damaged"):
        load(net, path)
    assert same(copied(net), before)


def test_damage_anywhere_in_an_old_file_is_refused(net: nn.Module, tmp_path: Path) -> None:
    """torch before 1.6 wrote pickles one after the other; cut or changed, they raise anything."""
    path = tmp_path / "w.pyth"
    state = {"a": torch.arange(9.0), "b": torch.ones(2)}
    torch.save({"model_state": state}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            load(net, path)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        with pytest.raises(WeightsError):  # where no harm was done: it does not fit
            load(net, path)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model_state": 3}, {"a": torch.ones(1), "b": 2}, torch.ones(3), "text"],
    ids=["list", "no state", "a number among tensors", "one tensor", "text"],
)
def test_a_file_that_holds_something_else_is_refused(
    net: nn.Module, tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="should hold tensors by name"):
        load(net, path)


@pytest.mark.parametrize(
    "content",
    [b"<html>404 Not Found</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"],
    ids=["a page", "a pointer"],
)
def test_a_text_in_the_files_place_is_refused(
    net: nn.Module, tmp_path: Path, content: bytes
) -> None:
    for suffix in (".pyth", ".safetensors"):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged"):
            load(net, path)


# ---------------------------------------------------------------- weights from the model zoo


@dataclass
class Zoo:
    """A server on loopback in the model zoo's place."""

    content: bytes = b""
    declared: int | None = None  # a Content-Length that the body need not keep
    raw: bytes | None = None  # in place of a whole answer
    status: int = 200
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    state = Zoo()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if state.raw is not None:
                self.wfile.write(state.raw)
                return
            self.send_response(state.status)
            declared = len(state.content) if state.declared is None else state.declared
            self.send_header("Content-Length", str(declared))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        point_zoo_at(server.server_port, monkeypatch)
        yield state
        server.shutdown()
        thread.join()


def point_zoo_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(backbones, "MODEL_ZOO", f"http://127.0.0.1:{port}/zoo/")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the model zoo's address at a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    point_zoo_at(port, monkeypatch)


@pytest.fixture(scope="module")
def kinetics_bytes(kinetics: State, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("kinetics") / "file"
    torch.save({"model_state": kinetics}, path)
    return path.read_bytes()


def test_kinetics_weights_are_fetched_once(
    net: nn.Module, kinetics: State, kinetics_bytes: bytes, zoo: Zoo, tmp_path: Path
) -> None:
    zoo.content = kinetics_bytes
    cache_dir = tmp_path / "new" / "cache"
    digest = hashlib.sha256(kinetics_bytes).hexdigest()
    expected = WeightsInfo("kinetics400", digest, head=False)
    assert load(net, "kinetics400", cache_dir=cache_dir) == expected
    assert same({**copied(net), **{key: kinetics[key] for key in HEAD}}, kinetics)
    assert zoo.asked == ["/zoo/X3D_XS.pyth"]
    assert [path.name for path in cache_dir.iterdir()] == ["X3D_XS.pyth"]
    assert (cache_dir / "X3D_XS.pyth").read_bytes() == kinetics_bytes

    another = build("x3d_xs", dropout=0.5)
    assert load(another, "kinetics400", cache_dir=cache_dir, sha256=digest) == expected
    assert same(copied(another), copied(net), but=HEAD)
    assert zoo.asked == ["/zoo/X3D_XS.pyth"]  # not again


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_backbone_asks_for_its_own_file(
    net: nn.Module, zoo: Zoo, tmp_path: Path, name: str
) -> None:
    zoo.content = b"not weights"
    with pytest.raises(WeightsError, match="damaged"):
        load(net, "kinetics400", name=name, cache_dir=tmp_path)
    assert zoo.asked == [f"/zoo/{name.upper()}.pyth"]


@pytest.mark.usefixtures("offline")
def test_offline_the_error_says_where_to_put_the_file(
    net: nn.Module, kinetics: State, kinetics_bytes: bytes, tmp_path: Path
) -> None:
    place = tmp_path / "cache" / "X3D_XS.pyth"
    message = rf"kinetics400, which is at {backbones.MODEL_ZOO}X3D_XS.pyth; .* put it at {place}, "
    before = copied(net)
    with pytest.raises(WeightsError, match=message):
        load(net, "kinetics400", cache_dir=place.parent)
    assert same(copied(net), before)
    assert list(place.parent.iterdir()) == []

    place.write_bytes(kinetics_bytes)  # as it said
    load(net, "kinetics400", cache_dir=place.parent)
    assert same({**copied(net), **{key: kinetics[key] for key in HEAD}}, kinetics)


def test_a_refusing_server_is_an_error_and_leaves_no_file(
    net: nn.Module, zoo: Zoo, tmp_path: Path
) -> None:
    zoo.status, zoo.content = 404, b"no such file"
    with pytest.raises(WeightsError, match=r"can't be reached \(HTTP Error 404"):
        load(net, "kinetics400", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_is_cut_off_leaves_no_file(
    net: nn.Module, kinetics_bytes: bytes, zoo: Zoo, tmp_path: Path
) -> None:
    zoo.content, zoo.declared = kinetics_bytes[:5000], len(kinetics_bytes)
    before = copied(net)
    with pytest.raises(WeightsError, match=f"broke off at 5000 of {len(kinetics_bytes)} bytes"):
        load(net, "kinetics400", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert same(copied(net), before)

    zoo.content, zoo.declared = kinetics_bytes, None
    load(net, "kinetics400", cache_dir=tmp_path)
    assert len(zoo.asked) == 2
    assert not same(copied(net), before, but=HEAD)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nnot all of it",
        b"no HTTP at all\r\n",
        b"",
    ],
    ids=["cut in a chunk", "something else", "nothing"],
)
def test_an_answer_that_is_no_whole_file_is_an_error_and_leaves_none(
    net: nn.Module, zoo: Zoo, tmp_path: Path, answer: bytes
) -> None:
    zoo.raw = answer
    with pytest.raises(WeightsError, match="can't be reached"):
        load(net, "kinetics400", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fetched_file_with_another_digest_is_refused(
    net: nn.Module, kinetics_bytes: bytes, zoo: Zoo, tmp_path: Path
) -> None:
    zoo.content = kinetics_bytes
    with pytest.raises(WeightsError, match="Delete it and fetch it again"):
        load(net, "kinetics400", cache_dir=tmp_path, sha256="a" * 64)


# ---------------------------------------------------------------- image nets, frame by frame

IMAGE_NETS = {"efficientnet_lite0": "classifier", "resnext50_32x4d": "fc"}
# Of ImageNet's thousand classes, and where pictures of them are installed.
MILITARY_UNIFORM, PALACE, DAISY = 652, 698, 985


def frame_net(name: str) -> FrameNet:
    built = build(name, dropout=0.0).eval()
    assert isinstance(built, FrameNet)
    return built


@pytest.fixture(scope="module", params=IMAGE_NETS)
def image_net(request: pytest.FixtureRequest) -> tuple[str, FrameNet]:
    torch.manual_seed(3)
    return request.param, frame_net(request.param)


@torch.inference_mode()
def test_a_clips_logits_are_the_mean_of_its_frames(
    image_net: tuple[str, FrameNet],
) -> None:
    _, net = image_net
    clips_BCTHW = torch.randn(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    own = net.row.colours
    for clip_CTHW, logits_2 in zip(clips_BCTHW, net(clips_BCTHW), strict=True):
        # From pixels anew, as the net's own makers normalise them.
        frames_TCHW = clip_CTHW.movedim(1, 0) * DEVIATION + MEAN
        mean, deviation = torch.tensor([own.mean, own.deviation])[:, :, None, None]
        each_T2 = torch.cat([net.image(((f - mean) / deviation)[None]) for f in frames_TCHW])
        torch.testing.assert_close(logits_2, each_T2.mean(0), rtol=1e-4, atol=1e-5)


def test_five_layers_and_the_head_are_the_whole_net(
    image_net: tuple[str, FrameNet], net: nn.Module
) -> None:
    name, frames = image_net
    for whole, head in ((frames, f"image.{IMAGE_NETS[name]}"), (net, "blocks.5.proj")):
        parts = backbones.layers(whole)
        assert len(parts) == 5
        learns = [p for layer in parts for module in layer for p in module.parameters()]
        learns += whole.get_submodule(head).parameters()
        assert len(learns) == len({id(p) for p in learns})  # none twice
        assert {id(p) for p in learns} == {id(p) for p in whole.parameters()}


@torch.inference_mode()
def test_the_last_stage_gives_a_map_of_every_frame(
    image_net: tuple[str, FrameNet], net: nn.Module
) -> None:
    shapes = []
    for whole in (image_net[1], net.eval()):
        hook = backbones.last_stage(whole).register_forward_hook(
            lambda *given: shapes.append(tuple(given[2].shape))
        )
        whole(torch.zeros(2, 3, 4, 64, 64))
        hook.remove()
    (frames, _, *places), (clips, _, times, *_) = shapes
    assert (frames, places) == (8, [2, 2])  # clip by clip, a thirty-second of the side
    assert (clips, times) == (2, 4)


@torch.inference_mode()
def test_the_layout_for_a_cpu_changes_no_logit(
    image_net: tuple[str, FrameNet], net: nn.Module
) -> None:
    clips_BCTHW = torch.randn(1, 3, 2, 64, 64)
    for whole in (image_net[1], net.eval()):
        before = whole(clips_BCTHW)
        backbones.lay_out_for_cpu(whole)
        kernels = [p for p in whole.parameters() if p.ndim in (4, 5) and p.shape[1] > 1]
        assert not any(p.is_contiguous() and p[0, 0].numel() > 1 for p in kernels)
        torch.testing.assert_close(whole(clips_BCTHW), before, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_packaged_weights_know_pictures_by_their_names(tmp_path: Path) -> None:
    """By padding, epsilon or normalisation of another code they get a third of these right."""
    net = frame_net("efficientnet_lite0")
    origin = load(net, "imagenet", name="efficientnet_lite0")
    assert origin == WeightsInfo("imagenet", backbones.LITE0_FILE.sha256, head=False)
    noise_BCTHW = torch.randn(2, 3, 2, 224, 224)
    assert net(noise_BCTHW).abs().max() < 1  # a fresh head knows nothing: near log-loss ln 2
    # The head of a thousand classes, which a detector leaves out, on the same features.
    file = backbones.find_weights(
        "imagenet", "efficientnet_lite0", sha256=origin.sha256, cache_dir=tmp_path
    )
    assert file is not None
    copied_net = frame_net("efficientnet_lite0")  # an archive brings the file under another path
    shutil.copy(file.path, tmp_path)
    assert not load(copied_net, tmp_path / file.path.name, name="efficientnet_lite0").head
    heads = "image.classifier.weight", "image.classifier.bias"
    assert same(copied(copied_net), copied(net), but=heads)
    state = torch.load(file.path, weights_only=True)
    head = nn.Linear(1280, 1000)
    head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    net.image.classifier = head
    pictures = Path(sklearn.__file__).with_name("datasets") / "images"
    hopper = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    known = {
        hopper: MILITARY_UNIFORM,
        pictures / "china.jpg": PALACE,
        pictures / "flower.jpg": DAISY,
    }
    for path, label in known.items():
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        (height, width), side = picture.shape[:2], min(picture.shape[:2])
        top, left = (height - side) // 2, (width - side) // 2
        square = picture[top : top + side, left : left + side]
        frame = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
        clip = (torch.from_numpy(frame).movedim(2, 0).float() / 255 - 0.45) / 0.225
        images_N = net.image(clip[None] * net.scale_CHW + net.shift_CHW)[0]
        assert int(images_N.argmax()) == label, path.name


def test_an_image_net_takes_its_makers_files_and_its_own(
    image_net: tuple[str, FrameNet], tmp_path: Path
) -> None:
    name, _ = image_net
    theirs, head = seeded(frame_net(name), 2), IMAGE_NETS[name]
    save_file(copied(theirs), tmp_path / "ours.safetensors")
    makers = {key.removeprefix("image."): value for key, value in copied(theirs).items()}
    makers |= {f"{head}.weight": torch.ones(1000, 8), f"{head}.bias": torch.ones(1000)}
    save_file(makers, tmp_path / "makers.safetensors")

    whole = frame_net(name)
    assert load(whole, tmp_path / "ours.safetensors", name=name).head
    assert same(copied(whole), copied(theirs))
    whole = frame_net(name)
    before = copied(whole)
    assert not load(whole, tmp_path / "makers.safetensors", name=name).head
    heads = f"image.{head}.weight", f"image.{head}.bias"
    assert same(copied(whole), {**copied(theirs), **{key: before[key] for key in heads}})


def test_nets_of_frames_and_of_clips_refuse_each_others_files(
    net: nn.Module, xs: State, tmp_path: Path
) -> None:
    lite0 = frame_net("efficientnet_lite0")
    save_file(xs, tmp_path / "xs.safetensors")
    save_file(copied(lite0), tmp_path / "lite0.safetensors")
    with pytest.raises(WeightsError, match="does not fit efficientnet_lite0"):
        load(lite0, tmp_path / "xs.safetensors", name="efficientnet_lite0")
    with pytest.raises(WeightsError, match="does not fit x3d_xs"):
        load(net, tmp_path / "lite0.safetensors")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("x3d_xs", "imagenet"),
        ("resnext50_32x4d", "imagenet"),
        ("efficientnet_lite0", "kinetics400"),
    ],
)
def test_weights_that_a_backbone_has_not_are_refused_by_name(name: str, source: str) -> None:
    with pytest.raises(WeightsError, match=f"is {source}, from which {name} can't start"):
        backbones.find_weights(source, name, sha256=None, cache_dir=Path("/nowhere"))


def test_whoever_uses_x3d_does_not_wait_for_timm() -> None:
    asked = "import sys; from unmask.models.backbones import build; build('x3d_xs', dropout=0.5); "
    code = asked + "sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
