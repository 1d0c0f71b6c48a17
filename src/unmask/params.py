"""The schema of params.yaml, and its only reader. There are no defaults here: values live there."""

import difflib
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from unmask.errors import MALFORMED, ParamsError
from unmask.geometry import PRETRAINED, Geometry, clip_geometry, no_such_start
from unmask.timm_facts import PATTERN, is_timm, timm_facts

Ratio = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Crf = Annotated[int, Field(ge=0, le=40)]  # x264 goes on to 51, where a face is a few blocks
TABLE_LAYERS = 5  # of each backbone in the table: a stem and four stages
COMMITTED_WEIGHTS = "weights/x3d_xs.safetensors"
Backbone = Literal["x3d_xs", "x3d_s", "x3d_m", "x3d_l", "efficientnet_lite0", "resnext50_32x4d"]


class Section(BaseModel):
    """A part of params.yaml: frozen, every key known and given."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Detect(Section):
    """MTCNN's settings: Zhang et al., 2016, arXiv:1604.02878."""

    max_side_px: Count  # larger frames are reduced to this before detection
    min_face_px: Annotated[int, Field(ge=12)]  # of the reduced frame; MTCNN's smallest window is 12
    thresholds: tuple[Ratio, Ratio, Ratio] = Field(strict=False)
    min_score: Ratio


class StillPeople(Section):
    """How many people's stills the sample uses in each split."""

    train: Natural
    validation: Natural
    test: Natural


class Sample(Section):
    """The made-up chunk."""

    still_people: StillPeople
    seconds: Positive
    crf: tuple[Crf, Crf] = Field(strict=False)
    detect: Detect
    seed: Natural

    @model_validator(mode="after")
    def _has_a_range(self) -> "Sample":
        if self.crf[0] > self.crf[1]:
            raise ValueError(f"crf is a range, lower end first; found {list(self.crf)}")
        return self


class Raw(Section):
    """The draw from a chunk, and the split."""

    max_real: Count | None
    fakes_per_real: Annotated[float, Field(ge=0)]  # 0 draws none: real videos alone
    honour_split: bool
    validation_ratio: Annotated[float, Field(gt=0, lt=1)]
    test_ratio: Annotated[float, Field(gt=0, lt=1)]
    alike_ratio: Annotated[float, Field(ge=0, lt=0.5)]  # two random pictures differ by a half
    contradictions: Literal["refuse", "drop"]  # the same pictures labelled REAL and FAKE
    copies: Literal["refuse", "drop"]  # the same pictures twice in a split, under one label
    seed: Natural

    @model_validator(mode="after")
    def _leaves_training_videos(self) -> "Raw":
        if self.validation_ratio + self.test_ratio >= 1:
            raise ValueError("validation_ratio + test_ratio must leave something to train on")
        return self


class Benchmark(Section):
    """Which videos of a benchmark are scored."""

    # test: by the data set's official protocol, else by its own words, else all
    videos: Literal["test", "all"]
    max_real: Count | None  # None takes all
    fakes_per_real: Positive | None  # None takes all
    shared: Literal[
        "refuse", "leave_out"
    ]  # what training has seen, too: a file, pictures, a person


class Faces(Section):
    """Detection, tracking and cropping."""

    rate_fps: Annotated[float, Field(gt=0, le=60)]
    side_px: Annotated[int, Field(ge=32, le=1024, multiple_of=2)]
    margin_ratio: Annotated[float, Field(ge=0, le=2)]
    crf: Crf
    detect: Detect
    detect_every_s: Positive
    smooth_s: Annotated[float, Field(ge=0)]
    min_track_s: Annotated[float, Field(ge=0)]
    max_gap_s: Positive
    min_overlap: Ratio
    max_failed_ratio: Ratio
    stall_s: Annotated[float, Field(ge=1)]


class Clips(Section):
    """The geometry of a clip; None stands for the backbone's own."""

    # A model's folder holds these, too, and may be a stranger's: no clip takes all memory or time.
    frames: Annotated[int, Field(ge=1, le=128)] | None
    interval_s: Annotated[float, Field(ge=0.01, le=60)] | None
    side_px: Annotated[int, Field(ge=64, le=1024)] | None
    brightness: Annotated[float, Field(ge=0.1, le=0.9)] | None
    max_per_track: Annotated[int, Field(ge=1, le=100_000)]
    stretch_s: Annotated[float, Field(gt=0, le=3600)]
    max_padding_ratio: Annotated[float, Field(ge=0, lt=1)]

    def geometry(self, backbone: str) -> Geometry:
        """Return the clip that a backbone gets."""
        own = clip_geometry(
            backbone, frames=self.frames, interval_s=self.interval_s, side_px=self.side_px
        )
        return replace(own, brightness=self.brightness)


class Augment(Section):
    """Probabilities and strengths of the training augmentations."""

    flip: Ratio
    colour: Ratio
    compress: Ratio
    blur: Ratio
    resize: Ratio
    shift_ratio: Annotated[float, Field(ge=0, lt=0.5)]


def _known_backbone(name: str) -> str:
    """Return the name, one of the table's or of a form that timm's names have.

    Whether timm has that net is asked where its clips are: timm takes seconds to import.
    """
    if name in get_args(Backbone) or re.fullmatch(PATTERN, name):
        return name
    *first, last = map(repr, get_args(Backbone))
    expected = f"timm/<name>, {', '.join(first)} or {last}"
    raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


class Model(Section):
    """The backbone and where its weights come from."""

    backbone: Annotated[str, AfterValidator(_known_backbone)]
    weights: str
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """Fine-tuning: which of the weights learn, when and how fast."""

    tune: Literal["milestones", "layernorm", "head", "all"]  # models.tuning
    epochs: Count
    batch_size: Count
    lr_head: Positive
    milestone: Natural
    unfreeze_top_layers: Natural  # up to TABLE_LAYERS; of a net of timm's up to its number
    lr_top_ratio: Positive
    lr_gamma: Positive
    self_blend: Ratio
    weight_decay: Annotated[float, Field(ge=0)]
    patience: Count
    cuda_precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    seed: Natural


class Verdicts(Section):
    """When an answer says fake or real, and when it says neither: verdicts.learn."""

    max_error_ratio: Annotated[float, Field(gt=0, lt=0.5)]
    stretch_error_ratio: Annotated[float, Field(ge=0, lt=0.5)]
    outlier_ratio: Annotated[float, Field(ge=0, lt=0.5)]

    @model_validator(mode="after")
    def _leaves_errors_for_whole_tracks(self) -> "Verdicts":
        if self.stretch_error_ratio >= self.max_error_ratio:
            raise ValueError(
                f"stretch_error_ratio {self.stretch_error_ratio:g} is a part of max_error_ratio "
                f"{self.max_error_ratio:g}: set it lower, 0 for no verdict by a stretch"
            )
        return self


class Evaluate(Section):
    """How sure the metrics are."""

    bootstrap_resamples: Annotated[int, Field(ge=10)]
    seed: Natural


class Federated(Section):
    """The benchmarks that `dvc repro federated` runs, one for each number of organisations."""

    organisations: tuple[Annotated[int, Field(ge=2)], ...] = Field(strict=False)
    rounds: Count

    @model_validator(mode="after")
    def _names_each_once(self) -> "Federated":
        if len(set(self.organisations)) != len(self.organisations):
            raise ValueError(f"organisations lists a number twice: {list(self.organisations)}")
        return self


# What a pass of a degradation may do, in this order, and the range of its number.
STEPS = {
    "cut": (0.0, 0.4),  # share of width and height that is cut off on every side
    "scale": (0.05, 1.0),  # of the sides
    "rate_fps": (1.0, 60.0),  # frames are left out, never added
    "brightness": (0.1, 4.0),  # factor of every 8-bit value
    "blur_px": (0.1, 20.0),  # standard deviation of a Gaussian, in pixels of the scaled picture
    "noise_levels": (0.1, 128.0),  # standard deviation of Gaussian noise, of 255
    "crf": (0.0, 51.0),  # H.264 quality; each pass ends by encoding
}
CLEAN = "clean"  # what the videos are called that nothing was done to


class Robustness(Section):
    """What is done to how many test videos: each degradation is one or more passes."""

    max_videos: Count | None
    degradations: dict[str, Annotated[tuple[dict[str, float], ...], Field(strict=False)]] = Field(
        min_length=1
    )
    seed: Natural

    @model_validator(mode="after")
    def _can_be_done(self) -> "Robustness":
        problems = [
            f"{name}: {problem}"
            for name, passes in self.degradations.items()
            for problem in _degradation_problems(name, passes)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _degradation_problems(name: str, passes: Sequence[Mapping[str, float]]) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]\w*", name) or name == CLEAN:
        yield f"a degradation's name is small letters, digits and _, and not {CLEAN!r}"
    if not passes:
        yield "a degradation needs a pass, such as {crf: 23}"
    for steps in passes:
        if "crf" not in steps:
            yield f"each pass ends by encoding; give it a crf, found {dict(steps)}"
        for step, value in steps.items():
            if step not in STEPS:
                yield f"unknown step {step!r}; known are {', '.join(STEPS)}"
                continue
            low, high = STEPS[step]
            if not low <= value <= high:
                yield f"{step} lies between {low:g} and {high:g}; found {value:g}"


class Growth(Section):
    """By how much a number may get worse from release to release."""

    roc_auc: Annotated[float, Field(ge=0)]
    log_loss: Annotated[float, Field(ge=0)]
    coverage: Annotated[float, Field(ge=0)]


class Gate(Section):
    """What a release may lose against the last one."""

    max_growth: Growth


class Pretrain(Section):
    """The starting checkpoint."""

    pairs: Count
    pictures: Count
    side_px: Annotated[int, Field(ge=64, le=176, multiple_of=16)]
    batch_size: Annotated[int, Field(ge=2, multiple_of=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    mask_weight: Annotated[float, Field(ge=0)]
    seed: Natural


class Params(Section):
    """All of params.yaml."""

    chunks: tuple[str, ...] = Field(strict=False, min_length=1)
    benchmarks: tuple[str, ...] = Field(strict=False)
    sample: Sample
    raw: Raw
    benchmark: Benchmark
    faces: Faces
    clips: Clips
    augment: Augment
    model: Model
    train: Train
    verdicts: Verdicts
    evaluate: Evaluate
    federated: Federated
    robustness: Robustness
    gate: Gate
    pretrain: Pretrain

    @model_validator(mode="after")
    def _fits_together(self) -> "Params":
        clashes = [
            *self._chunk_clashes(), *self._benchmark_clashes(),
            *(self._backbone_clashes() or self._clip_clashes()),
            *self._weights_clashes(),
        ]  # fmt: skip
        if clashes:
            raise ValueError("\n  ".join(clashes))
        return self

    def _chunk_clashes(self) -> Iterator[str]:
        if len(set(self.chunks)) != len(self.chunks):
            yield f"chunks lists a chunk twice: {', '.join(self.chunks)}"
        for chunk in self.chunks:
            # A first "-" would make it an option of the stage's command.
            if not re.fullmatch(r"\w[\w.-]*", chunk):
                yield f"chunk {chunk!r} must be a plain name below data/chunks"
        if "sample" in self.chunks and not self.raw.honour_split:
            yield (
                "raw.honour_split is false, but the sample's own split keeps the people whom the "
                "starting checkpoint has seen out of its test. Set it to true, or drop `sample` "
                "from chunks"
            )

    def _benchmark_clashes(self) -> Iterator[str]:
        names = self.benchmarks
        if len(set(names)) != len(names):
            yield f"benchmarks lists a benchmark twice: {', '.join(names)}"
        for name in names:
            # <name>.json is the file of a benchmark's metrics, beside the folder <name>.
            if not re.fullmatch(r"\w[\w.-]{0,99}", name) or name.endswith(".json"):
                yield (
                    f"benchmark {name!r} must be a plain name below data/chunks, of 100 characters "
                    "at most and without .json at its end"
                )
        if both := sorted(set(names) & set(self.chunks)):
            yield (
                f"{', '.join(both)} in both chunks and benchmarks: a benchmark is never trained "
                "on. Take it out of one of the two"
            )
        if "sample" in names and self.benchmark.videos == "all":
            yield (
                "benchmark.videos is all, but the starting checkpoint has seen the people of the "
                "sample's training videos. Set it to test, or drop `sample` from benchmarks"
            )

    def _backbone_clashes(self) -> list[str]:
        backbone, layers = self.model.backbone, self.train.unfreeze_top_layers
        if is_timm(backbone):
            try:
                timm_facts(backbone)
            except ParamsError as error:
                return [str(error)]
        elif layers > TABLE_LAYERS:
            return [
                f"train.unfreeze_top_layers is {layers}; {backbone} has {TABLE_LAYERS} layers: a "
                "stem and four stages. Set it between 0 and that"
            ]
        return []

    def _weights_clashes(self) -> Iterator[str]:
        weights, backbone = self.model.weights, self.model.backbone
        # The committed file holds an X3D, as kinetics400 does.
        kind = "kinetics400" if weights == COMMITTED_WEIGHTS else weights
        if kind in {"kinetics400", "imagenet"} and kind != PRETRAINED.get(backbone):
            yield no_such_start(backbone, weights)
        # Only the committed file is a dep of the stage: another's content must be named here.
        known = weights in {"none", "kinetics400", "imagenet", COMMITTED_WEIGHTS}
        if not known and self.model.weights_sha256 is None:
            file = weights if PurePath(weights).suffix else f"{weights}/weights.safetensors"
            yield (
                f"model.weights is {weights}, whose content nothing names. Set "
                f"model.weights_sha256 to what `sha256sum {file}` says"
            )

    def _clip_clashes(self) -> Iterator[str]:
        clip, faces = self.clips.geometry(self.model.backbone), self.faces
        filmed_s = clip.span_s * (1 - self.clips.max_padding_ratio)
        if filmed_s > faces.min_track_s + 1e-6:
            yield (
                f"a clip of {self.model.backbone} lasts {clip.span_s:.2f} s ({clip.frames} frames, "
                f"one every {clip.interval_s:.3f} s), the shortest track {faces.min_track_s:g} s: "
                f"more than clips.max_padding_ratio, {self.clips.max_padding_ratio:g}, would be "
                f"its last frame, held. Raise faces.min_track_s to {filmed_s:.2f} (faces are "
                "cropped anew), or make clips shorter by clips.frames or clips.interval_s"
            )
        if clip.frames > 1 and clip.interval_s < 1 / faces.rate_fps - 1e-6:
            yield (
                f"a clip of {self.model.backbone} takes a frame every {clip.interval_s:.3f} s; "
                f"crops hold one every {1 / faces.rate_fps:.3f} s: frames would be doubled. Raise "
                f"faces.rate_fps to {1 / clip.interval_s:.1f} or clips.interval_s"
            )
        if clip.side_px > faces.side_px:
            yield (
                f"a clip of {self.model.backbone} is {clip.side_px} pixels wide, crops are "
                f"{faces.side_px}: they would be blown up. Raise faces.side_px or set clips.side_px"
            )


MAX_ALIASES = 20  # each may repeat several before it: together they stand for some thousand values
_shorten = reprlib.Repr()  # a message shows what it found
_shorten.maxlevel, _shorten.maxstring, _shorten.maxother = 3, 200, 200


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but for numbers such as 2e-05.

    1.1 takes that for a word; `dvc exp run -S train.lr_head=0.00002` writes it so, by YAML 1.2.
    Aliases are counted: a kilobyte of them that repeat each other stands for gigabytes.
    """

    _aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases")
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """Return what the text says: plain words, numbers, dates, lists and dicts.

    Raises:
        yaml.YAMLError: it is not YAML, has a value that can't be, such as the month 13, or more
            than MAX_ALIASES aliases.
    """
    try:
        return yaml.load(text, _Loader)
    except MALFORMED as error:  # PyYAML's constructors let them through
        raise yaml.YAMLError(f"a value that can't be: {error}") from error


def load(path: Path = Path("params.yaml")) -> Params:
    """Return the checked params.

    Raises:
        ParamsError: the file is missing or not YAML, or keys are unknown, missing, of the wrong
            type or out of range; one message lists them all.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(
            f"Asked for {path}; there is no such file. Run this in the repository's root."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {error}. Mend it or take it from Git.") from error
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = [_explain(dict(problem)) for problem in error.errors()]
        raise ParamsError(
            "\n".join([f"{path} has {len(problems)} problem(s):", *problems])
        ) from error


def check_chunks(
    names: Sequence[str], chunks_dir: Path, made: Collection[str], *, key: str = "chunks"
) -> None:
    """Pass if every named chunk lies in chunks_dir, is kept by DVC (<chunk>.dvc), or is made.

    key is where params.yaml names them.

    Raises:
        ParamsError: some are not; one message lists them all.
    """
    here = [path.name.removesuffix(".dvc") for path in chunks_dir.glob("[!.]*")]
    known = sorted({*here, *made})
    problems = []
    for name in sorted(set(names) - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        problems.append(f"  {key}: {name} is not in {chunks_dir}; {hint}")
    if problems:
        raise ParamsError(
            "\n".join([f"params.yaml names {len(problems)} unknown chunk(s):", *problems])
        )


def say_problems(error: Exception) -> str:
    """Return what an error says in one line: of a schema's, each place and what is wrong there."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    said = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(ascii(part).strip("'") for part in problem["loc"]) or "the whole"
        words = " ".join(problem["msg"].removeprefix("Value error, ").split())
        said.append(f"{where}: {words}")
    return "; ".join(said)


def _explain(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"  {where}: unknown key{_did_you_mean(problem['loc'])}"
    if problem["type"] == "missing":
        return f"  {where}: missing; every value stands in the file"
    if problem["type"] == "value_error":  # ours: it names what it found, the input is all of it
        return f"  {where}: {problem['ctx']['error']}"
    close: list[str] = []
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        close = difflib.get_close_matches(str(problem["input"]), known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"  {where}: {problem['msg']} (found {_shorten.repr(problem['input'])}){meant}"


def _did_you_mean(location: tuple[Any, ...]) -> str:
    section: Any = Params
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
        if not sections:
            return ""
        section = sections[0]
    known = list(section.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
