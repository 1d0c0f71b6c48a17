import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from unmask import params
from unmask.errors import ParamsError

SHIPPED = Path(__file__).parents[1] / "params.yaml"
GONE = object()


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A file like the shipped one, but for these values: {"faces.detect.min_score": 2}."""

    def write(values: dict[str, Any]) -> Path:
        tree = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
        for where, value in values.items():
            *sections, key = where.split(".")
            section = tree
            for name in sections:
                section = section[name]
            if value is GONE:
                del section[key]
            else:
                section[key] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return path

    return write


def message(path: Path) -> str:
    with pytest.raises(ParamsError) as caught:
        params.load(path)
    return str(caught.value)


def test_the_shipped_file_loads() -> None:
    settings = params.load(SHIPPED)
    assert settings.model_dump(mode="json") == yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "chunks: 2001-99-99", "chunks: 0x_", "chunks: !!int a", "chunks: !!bool a",
        "chunks: !!timestamp a", "chunks: " + "[" * 2000,
        "chunks: !!python/object/apply:os.abort []",
    ],
)  # fmt: skip
def test_a_value_that_can_not_be_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert message(path).startswith(f"{path} is not YAML")


def test_aliases_may_be_used_and_their_number_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("chunks: &a [x]\nraw: {chunks: *a}\n")
    assert params.read_yaml(path.read_text()) == {"chunks": ["x"], "raw": {"chunks": ["x"]}}
    # Eight levels of eight: 16 million words in half a kilobyte.
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    path.write_text("\n".join(["a0: &a0 [x, x]", *levels]))
    assert "more than 20 aliases" in message(path)
    merges = [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}" for n in range(1, 9)]
    path.write_text("\n".join(["a0: &a0 {x: 1}", *merges]))
    assert "more than 20 aliases" in message(path)


def test_a_message_shows_the_beginning_of_what_it_found(tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 11)]  # 20 aliases, 2048 words
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(["a0: &a0 [x, x]", *levels, "chunks: " + "y" * 100_000]))
    assert len(message(path)) < 5000


def test_the_shipped_file_is_the_one_in_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, changed: Callable[..., Path]
) -> None:
    monkeypatch.chdir(changed({"train.epochs": 77}).parent)
    assert params.load().train.epochs == 77


# ---------------------------------------------------------------- no defaults in Python


def keys(section: type[params.Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name of each key, sections included, and its field."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, params.Section):
                yield from keys(kind, f"{prefix}{name}.")


@pytest.mark.parametrize(("name", "field"), list(keys(params.Params)))
def test_every_value_stands_in_the_file_and_has_no_default(
    name: str, field: Any, changed: Callable[..., Path]
) -> None:
    assert field.is_required()
    value = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for part in name.split("."):
        value = value[part]  # a KeyError names what the file lacks
    assert message(changed({name: GONE})).splitlines()[1:] == [
        f"  {name}: missing; every value stands in the file"
    ]


def test_the_walk_over_the_schema_reaches_its_leaves() -> None:
    names = {name for name, _ in keys(params.Params)}
    assert {"chunks", "raw.seed", "faces.detect.thresholds", "sample.still_people.test"} <= names


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("trian", {}, "trian: unknown key; did you mean train?"),
        ("train.epoch", 6, "train.epoch: unknown key; did you mean epochs?"),
        (
            "faces.detect.min_face",
            24,
            "faces.detect.min_face: unknown key; did you mean min_face_px?",
        ),
        ("model.zzz", 1, "model.zzz: unknown key; known are backbone, weights"),
        ("faces.3", 1, "faces.3: unknown key"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(
    where: str, value: Any, said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed({where: value}))


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("train.lr_head", "fast", "a valid number (found 'fast')"),
        ("train.lr_head", True, "a valid number (found True)"),
        ("train.epochs", True, "a valid integer (found True)"),
        ("train.epochs", 6.0, "a valid integer (found 6.0)"),
        ("train.epochs", "6", "a valid integer (found '6')"),
        ("train.epochs", None, "a valid integer (found None)"),
        ("raw.honour_split", 1, "a valid boolean (found 1)"),
        ("raw.honour_split", "yes", "a valid boolean (found 'yes')"),
        ("model.weights", 1, "a valid string (found 1)"),
        ("model.backbone", "x3d_xl", "or 'resnext50_32x4d' (found 'x3d_xl'); did you mean x3d_"),
        ("chunks", "sample", "(found 'sample')"),
        ("chunks", [], "at least 1 item"),
        ("faces", None, "faces: "),
        ("faces.detect", 3, "faces.detect: "),
        ("train.epochs", 0, "greater than or equal to 1 (found 0)"),
        ("train.lr_head", 0.0, "greater than 0 (found 0.0)"),
        ("train.lr_head", float("nan"), "(found nan)"),
        ("train.lr_head", float("inf"), "(found inf)"),
        ("faces.rate_fps", 60.5, "less than or equal to 60 (found 60.5)"),
        ("faces.side_px", 255, "multiple of 2 (found 255)"),
        ("faces.min_overlap", 1.1, "less than or equal to 1 (found 1.1)"),
        ("faces.detect.min_face_px", 11, "greater than or equal to 12 (found 11)"),
        ("augment.shift_ratio", 0.5, "less than 0.5 (found 0.5)"),
        ("model.dropout", 1.0, "less than 1 (found 1.0)"),
        ("clips.side_px", 63, "greater than or equal to 64 (found 63)"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found(
    where: str, value: Any, said: str, changed: Callable[..., Path]
) -> None:
    lines = message(changed({where: value})).splitlines()
    assert lines[0].endswith("params.yaml has 1 problem(s):")
    assert lines[1].startswith(f"  {where}: ")
    assert said in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ([0.6, 0.7], "faces.detect.thresholds"),
        ([0.6, 0.7, 0.7, 0.7], "faces.detect.thresholds"),
        ([0.6, "0.7", 0.7], "faces.detect.thresholds.1: Input should be a valid number"),
        ([0.6, 0.7, 1.7], "faces.detect.thresholds.2: Input should be less than or equal to 1"),
    ],
)
def test_a_list_is_checked_in_length_and_item_by_item(
    thresholds: list[Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed({"faces.detect.thresholds": thresholds}))


def test_every_problem_is_listed_at_once(changed: Callable[..., Path]) -> None:
    path = changed({"trian": 1, "train.epochs": 0, "raw.seed": GONE, "augment.flip": "often"})
    first, *problems = message(path).splitlines()
    assert first == f"{path} has 4 problem(s):"
    assert {line.split(":")[0].strip() for line in problems} == {
        "trian",
        "train.epochs",
        "raw.seed",
        "augment.flip",
    }


# ---------------------------------------------------------------- checks across values


def test_a_chunk_may_stand_only_once(changed: Callable[..., Path]) -> None:
    assert "chunks lists a chunk twice: a, b, a" in message(changed({"chunks": ["a", "b", "a"]}))


@pytest.mark.parametrize("name", ["", "-rf", ".a", "a/b", "..", ".", "a b", "a\\b", "$(a)", "a,b"])
def test_a_chunk_is_a_plain_name(name: str, changed: Callable[..., Path]) -> None:
    assert f"chunk {name!r} must be a plain name" in message(changed({"chunks": ["ok", name]}))


@pytest.mark.parametrize("name", ["dfdc_train_part_07", "dfdc-07", "07", "v1.2", "dfdc_07.zip"])
def test_the_usual_names_of_chunks_pass(name: str, changed: Callable[..., Path]) -> None:
    assert params.load(changed({"chunks": [name]})).chunks == (name,)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.4, 0.7)])
def test_the_split_must_leave_videos_to_train_on(
    validation: float, test: float, changed: Callable[..., Path]
) -> None:
    path = changed({"raw.validation_ratio": validation, "raw.test_ratio": test})
    assert "  raw: " in message(path)
    assert message(path).endswith("must leave something to train on")  # not the whole input


def test_stretches_take_a_part_of_the_errors(changed: Callable[..., Path]) -> None:
    whole = changed({"verdicts.stretch_error_ratio": 0.1})
    assert "stretch_error_ratio 0.1 is a part of max_error_ratio 0.1: set it lower" in message(
        whole
    )
    params.load(changed({"verdicts.stretch_error_ratio": 0.0}))


@pytest.mark.parametrize(
    ("crf", "said"), [([26, 20], "lower end first; found [26, 20]"), ([26, 41], "sample.crf.1: ")]
)
def test_a_range_of_qualities_has_a_lower_end(
    crf: list[int], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed({"sample.crf": crf}))


# ---------------------------------------------------------------- what is accepted


def test_a_whole_number_does_where_a_real_one_is_asked_for(changed: Callable[..., Path]) -> None:
    # People write `rate_fps: 10`, and DVC may write 10.0 back as 10.
    rate_fps = params.load(changed({"faces.rate_fps": 10})).faces.rate_fps
    assert rate_fps == 10.0
    assert isinstance(rate_fps, float)


@pytest.mark.parametrize("where", ["clips.frames", "clips.interval_s", "clips.side_px"])
def test_a_clip_may_leave_its_geometry_to_the_backbone(
    where: str, changed: Callable[..., Path]
) -> None:
    section, key = where.split(".")
    assert getattr(getattr(params.load(changed({where: None})), section), key) is None


def test_params_are_frozen() -> None:
    settings = params.load(SHIPPED)
    with pytest.raises(ValidationError, match="frozen"):
        settings.train.epochs = 7  # type: ignore[misc]  # the point of the test
    with pytest.raises(ValidationError, match="frozen"):
        settings.chunks = ()  # type: ignore[misc]  # the point of the test
    assert isinstance(settings.chunks, tuple)
    assert isinstance(settings.faces.detect.thresholds, tuple)


@pytest.mark.parametrize("text", ["2e-05", "2E-5", "0.2e-4", "2.0e-5", "0.00002"])
def test_a_number_may_be_written_as_dvc_writes_it(text: str, tmp_path: Path) -> None:
    # `dvc exp run -S train.lr_head=0.00002` leaves 2e-05 in the file, a word in YAML 1.1.
    path = tmp_path / "params.yaml"
    shipped = SHIPPED.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?<=lr_head: )\S+", text, shipped), encoding="utf-8")
    assert params.load(path).train.lr_head == 2e-5


# ---------------------------------------------------------------- the file itself


def test_a_missing_file_is_asked_for_by_name(tmp_path: Path) -> None:
    assert f"{tmp_path}/nowhere.yaml; there is no such file" in message(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("text", ["raw: [1", "raw:\n\tseed: 1", "raw: *lost", "a: b: c"])
def test_what_is_not_yaml_is_said_to_be_that(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert f"{path} is not YAML" in message(path)
    assert "line " in message(path)


@pytest.mark.parametrize("text", ["", "# only words", "- a\n- b", "7"])
def test_yaml_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert "the file: " in message(path)


def test_what_is_not_text_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe")
    assert f"{path} is not YAML" in message(path)


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("raw: !!python/object/apply:os.getcwd []", encoding="utf-8")
    assert "is not YAML" in message(path)


# ---------------------------------------------------------------- what does not fit together


def test_a_word_out_of_a_list_is_answered_with_the_nearest(changed: Callable[..., Path]) -> None:
    said = message(changed({"model.backbone": "x3d_sx", "train.cuda_precision": "16-mixd"}))
    assert "did you mean x3d_xs?" in said or "did you mean x3d_s?" in said
    assert "did you mean 16-mixed?" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # x3d_m's 16 frames, 1/6 s apart, last 2.5 s; 60 % of that may be held: 1 s must be filmed.
        ({"model.backbone": "x3d_m", "faces.min_track_s": 0.9}, "Raise faces.min_track_s to 1.00"),
        (
            {"clips.max_padding_ratio": 0.0, "faces.min_track_s": 1.1},
            "a clip of x3d_xs lasts 1.20 s",
        ),
        ({"clips.interval_s": 0.05}, "Raise faces.rate_fps to 20.0 or clips.interval_s"),
        ({"model.backbone": "x3d_l"}, "is 312 pixels wide, crops are 256"),
        ({"clips.side_px": 288}, "is 288 pixels wide, crops are 256"),
    ],
)
def test_clips_must_fit_the_crops(
    values: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed(values))


def test_clashes_are_listed_together(changed: Callable[..., Path]) -> None:
    said = message(changed({"clips.interval_s": 0.05, "clips.side_px": 288, "chunks": ["a", "a"]}))
    assert "chunks lists a chunk twice: a, a" in said
    assert "frames would be doubled" in said
    assert "288 pixels wide" in said


@pytest.mark.parametrize("backbone", ["x3d_xs", "x3d_s", "x3d_m"])
def test_the_articles_backbones_fit_the_shipped_crops(
    backbone: str, changed: Callable[..., Path]
) -> None:
    assert params.load(changed({"model.backbone": backbone})).model.backbone == backbone


def test_an_image_net_starts_from_weights_of_its_own(changed: Callable[..., Path]) -> None:
    def said(backbone: str, weights: str) -> str:
        return message(changed({"model.backbone": backbone, "model.weights": weights}))

    lite0 = {"model.backbone": "efficientnet_lite0"}
    assert params.load(changed({**lite0, "model.weights": "imagenet"})).model.weights == "imagenet"
    params.load(changed({"model.backbone": "resnext50_32x4d", "model.weights": "none"}))
    assert "Set it to imagenet, or set none" in message(changed(lite0))  # the shipped file
    assert "Set it to imagenet" in said("efficientnet_lite0", "kinetics400")
    assert "Set it to kinetics400" in said("x3d_s", "imagenet")
    fetch = "is imagenet, from which resnext50_32x4d can't start. Fetch timm's or torchvision's"
    assert fetch in said("resnext50_32x4d", "imagenet")


def test_a_chunk_that_is_nowhere_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "wild").mkdir()
    (tmp_path / "part_00.zip").touch()
    (tmp_path / "kept.dvc").touch()
    (tmp_path / ".gitignore").touch()
    params.check_chunks(["wild", "part_00.zip", "kept", "sample"], tmp_path, made=["sample"])
    with pytest.raises(ParamsError) as caught:
        params.check_chunks(["wlid", "part_00", "other"], tmp_path, made=["sample"])
    said = str(caught.value)
    assert "names 3 unknown chunk(s)" in said
    assert "wlid is not in" in said
    assert "did you mean wild?" in said
    assert "did you mean part_00.zip?" in said
    assert "other is not in" in said
    assert "there are kept, part_00.zip, sample, wild" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"raw.honour_split": False}, "Set it to true, or drop `sample` from chunks"),
        ({"model.weights": "mine.pt"}, "Set model.weights_sha256 to what `sha256sum mine.pt` says"),
        ({"model.weights": "adopted/cf"}, "`sha256sum adopted/cf/weights.safetensors` says"),
        ({"raw.test_ratio": 0.0}, "raw.test_ratio"),
        ({"raw.validation_ratio": 0}, "raw.validation_ratio"),
    ],
)
def test_what_would_spoil_the_numbers_is_refused(
    values: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed(values))


def test_what_is_pinned_or_another_chunks_split_is_not(changed: Callable[..., Path]) -> None:
    params.load(changed({"raw.honour_split": False, "chunks": ["mine"]}))
    for weights in ("none", "kinetics400"):
        params.load(changed({"model.weights": weights}))
    params.load(changed({"model.weights": "mine.pt", "model.weights_sha256": "0a" * 32}))


@pytest.mark.parametrize("name", ["vit_small_patch16_384", "vit_base_patch16_clip_224.openai"])
def test_nets_of_timms_are_taken_by_their_names(name: str, changed: Callable[..., Path]) -> None:
    values = {"model.backbone": f"timm/{name}", "model.weights": "none", "clips.side_px": 224}
    loaded = params.load(changed({**values, "train.unfreeze_top_layers": 12, "train.tune": "head"}))
    assert loaded.model.backbone == f"timm/{name}"
    assert loaded.train.unfreeze_top_layers == 12


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model.backbone": "timm/vit_smal_patch16_384"}, "mean timm/vit_small_patch16_384"),
        ({"model.backbone": "timm/deit_tiny_distilled_patch16_224"}, "by a single head"),
        ({"model.backbone": "timm/vit_small_patch16_384"}, "is 384 pixels wide, crops are 256"),
        ({"model.backbone": "timm/../x3d"}, "Input should be timm/<name>, 'x3d_xs'"),
        ({"model.backbone": "timm/vit tiny"}, "Input should be timm/<name>"),
        ({"model.backbone": "timm/resnet18", "model.weights": "imagenet"}, "can't start"),
        ({"train.tune": "layernorms"}, "did you mean layernorm?"),
        ({"train.unfreeze_top_layers": 6}, "x3d_xs has 5 layers"),
    ],
)
def test_what_timm_or_the_net_has_not_is_refused(
    values: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed({"model.weights": "none", **values}))


# ---------------------------------------------------------------- degradations


@pytest.mark.parametrize(
    ("degradations", "said"),
    [
        ({"crf_23": [{"scale": 0.5}]}, "crf_23: each pass ends by encoding; give it a crf"),
        ({"a": [{"crf": 60}]}, "a: crf lies between 0 and 51; found 60"),
        ({"a": [{"blur": 2, "crf": 20}]}, "a: unknown step 'blur'; known are cut, scale"),
        ({"a": []}, "a: a degradation needs a pass, such as {crf: 23}"),
        ({"clean": [{"crf": 20}]}, "and not 'clean'"),
        ({"../x": [{"crf": 20}]}, "a degradation's name is small letters, digits and _"),
        ({}, "robustness.degradations"),
    ],
)
def test_a_degradation_that_cant_be_done_is_refused(
    degradations: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed({"robustness.degradations": degradations}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"chunks": ["a", "b"], "benchmarks": ["b", "c"]}, "b in both chunks and benchmarks"),
        ({"benchmarks": ["c", "c"]}, "benchmarks lists a benchmark twice: c, c"),
        ({"benchmarks": ["-c"]}, "benchmark '-c' must be a plain name"),
        ({"benchmarks": ["c.json"]}, "without .json at its end"),
        ({"benchmarks": ["c" * 101]}, "of 100 characters at most"),
        (
            {"chunks": ["a"], "benchmarks": ["sample"], "benchmark.videos": "all"},
            "has seen the people of the sample's training videos",
        ),
        ({"benchmark.shared": "leave-out"}, "did you mean leave_out?"),
        ({"benchmark.fakes_per_real": 0}, "benchmark.fakes_per_real"),
    ],
)
def test_a_benchmark_that_can_not_be(
    values: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    assert said in message(changed(values))


def test_benchmarks_of_a_plain_name_load(changed: Callable[..., Path]) -> None:
    settings = params.load(changed({"benchmarks": ["celeb-df", "wild.zip"]}))
    assert settings.benchmarks == ("celeb-df", "wild.zip")


def test_a_benchmark_that_is_not_there_is_named_under_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "celeb").mkdir()
    with pytest.raises(ParamsError, match=r"benchmarks: cleeb is not in .*; did you mean celeb\?"):
        params.check_chunks(["cleeb"], tmp_path, made=["sample"], key="benchmarks")


def test_what_a_schema_refuses_is_said_in_one_line() -> None:
    with pytest.raises(ValidationError) as raised:
        params.Augment.model_validate({"flip": "maybe", "two\nlines": 1})
    said = params.say_problems(raised.value)
    assert "flip" in said
    assert "two\\nlines: Extra inputs are not permitted" in said
    assert said.isprintable()
    assert params.say_problems(KeyError("net")) == "'net'"
    assert params.say_problems(ValueError("a\n  b")) == "a b"
