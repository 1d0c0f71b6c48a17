"""What ties an answer to its video and its model: digests, versions, metrics that are its own."""

import hashlib
import json
import math
import platform
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import yaml

from unmask.errors import WeightsError
from unmask.models.card_head import split_head
from unmask.models.checkpoint import CARD, read_settings
from unmask.runtime.digests import CALIBRATION, dvc_digest, dvc_digest_before
from unmask.runtime.disk import content_digest, read_regular
from unmask.runtime.plain_text import shown_name
from unmask.tracking import provenance

# Those whose version can move a score.
PACKAGES = (
    "unmask", "openvino", "onnxruntime", "torch", "torchvision", "pytorchvideo", "timm",
    "facenet-pytorch", "av", "numpy", "opencv-python-headless",
)  # fmt: skip
ANNOTATED = "boxes and scores by unmask predict --annotate"  # in the metadata of such a clip
INDEX_MARK = '<meta name="generator" content="unmask predict --index">'  # in such a page
COMPARISON = "metrics/comparison.json"  # benchmarks/compare.py writes it
RUN_TAG = "unmask.run"  # as track_mlflow writes a training's key

# What lies beside a model may be a stranger's: no more of it is read than such files have.
_MAX_METRICS_BYTES, _MAX_LOCK_BYTES, _MAX_CARD_BYTES = 2**22, 2**22, 2**18
_MAX_DEPTH = 30  # of metrics; a summary has 4 levels
_LOOK_UP_S = 2.0  # for a run in MLflow's file
_MAX_VALUE_BYTES = 2**20  # of a row or text in it


@dataclass(frozen=True)
class Metrics:
    """A file of metrics that lies beside a model; values is None where they may not be shown."""

    values: dict[str, Any] | None
    remark: str  # why they are the model's own, or why not


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from; what is not known is None."""

    made_utc: str
    command: str
    git_commit: str | None
    git_dirty: bool | None  # whether files differ from the commit
    dvc_lock_sha256: str | None
    run_key: str  # of the training, by which every tracker finds its run
    mlflow_run: str | None
    python: str
    platform: str
    packages: dict[str, str]


def collect(
    root: Path | None,
    *,
    run_key: str,
    command: Sequence[str],
    mlflow_db: Path | None,
    beside: Path | None = None,
) -> Provenance:
    """Return where an answer that is given now comes from.

    root is the checkout whose commit counts; None where nothing is to be asked of Git. beside is
    the folder whose dvc.lock counts, root if it is not given. mlflow_db is MLflow's SQLite file: a
    server is never asked.
    """
    beside = beside or root
    tags = provenance.source_tags(root) if root else {}
    lock = beside / "dvc.lock" if beside else None
    return Provenance(
        made_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(shown_name(word) for word in command),
        git_commit=tags.get("mlflow.source.git.commit"),
        git_dirty=tags["git.dirty"] == "true" if "git.dirty" in tags else None,
        dvc_lock_sha256=content_digest(lock) if lock and lock.is_file() else None,
        run_key=run_key,
        mlflow_run=_find_run(mlflow_db, run_key) if mlflow_db else None,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _find_run(mlflow_db: Path, run_key: str) -> str | None:
    """Return the newest finished run of a training that MLflow's file knows.

    None, too, where the file is none of MLflow's, or has no answer within seconds.
    """
    if not mlflow_db.is_file():
        return None
    # In a thread: SQLite holds back Ctrl-C and SIGTERM while it works, and would lose them.
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(_query_run, mlflow_db, run_key).result()


def _query_run(mlflow_db: Path, run_key: str) -> str | None:
    # MLflow's own client takes two seconds to import, and would move an old file to its schema.
    query = (
        "SELECT runs.run_uuid FROM runs JOIN tags ON runs.run_uuid = tags.run_uuid "
        "WHERE tags.key = ? AND tags.value = ? AND runs.lifecycle_stage = 'active' "
        "AND runs.status = 'FINISHED' "  # another of the same key may be under way
        "ORDER BY runs.start_time DESC"
    )
    # Views and virtual tables, whose rows a stranger's SQL makes up without end, have no pages.
    tables = (
        "SELECT count(*) FROM sqlite_master "
        "WHERE type = 'table' AND name IN ('runs', 'tags') AND rootpage > 0"
    )
    end_s = time.monotonic() + _LOOK_UP_S
    try:
        with closing(sqlite3.connect(f"{mlflow_db.resolve().as_uri()}?mode=ro", uri=True)) as store:
            store.set_progress_handler(lambda: time.monotonic() > end_s, 10_000)
            store.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            store.execute("PRAGMA trusted_schema = OFF")
            store.execute(f"PRAGMA busy_timeout = {round(1000 * _LOOK_UP_S)}")
            if store.execute(tables).fetchone() != (2,):
                return None
            row = store.execute(query, (RUN_TAG, run_key)).fetchone()
    except sqlite3.Error:  # another schema, a lock, no database: then the key alone has to do
        return None
    return str(row[0]) if row else None


def is_page(path: Path) -> bool:
    """Say whether a file is a report, whatever became of it since."""
    return _holds(path, b'id="unmask-report"')


def is_annotated(path: Path) -> bool:
    """Say whether a file is a clip with boxes that was written here."""
    return _holds(path, ANNOTATED.encode())


def is_index(path: Path) -> bool:
    """Say whether a file is a page that lists videos and was written here."""
    return _holds(path, INDEX_MARK.encode())


def _holds(path: Path, mark: bytes) -> bool:
    if not path.is_file():  # nobody may ever write into a pipe
        return False
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.find(mark) >= 0
    except (OSError, ValueError):  # one that may not be read, an empty one
        return False


# ---------------------------------------------------------------- metrics


def read_metrics(root: Path, model_dir: Path, name: str) -> Metrics:
    """Return metrics/<name>.json of a checkout, where its dvc.lock says that they are the model's.

    That is so where a stage read a model of this content and wrote metrics of this content.
    """
    shown = f"metrics/{name}.json"
    try:
        content = read_regular(root / shown, _MAX_METRICS_BYTES)
    except FileNotFoundError:
        return Metrics(None, f"There is no {shown} beside the model.")
    except OSError as error:
        return Metrics(None, f"{shown} can't be read ({error.strerror}).")
    metrics = hashlib.md5(content, usedforsecurity=False).hexdigest()
    models = _digests(model_dir)
    try:
        stages = _read_lock(root / "dvc.lock")["stages"]
        are_its_own = any(
            {"path": shown, "md5": metrics}.items() <= wrote.items()
            and any(read["md5"] in models for read in stage.get("deps", []))
            for stage in stages.values()
            for wrote in stage.get("outs", [])
        )
        values = _parse(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
            yaml.YAMLError):  # fmt: skip
        return Metrics(None, f"{shown} has no dvc.lock beside it that says of which model it is.")
    if not are_its_own:
        return Metrics(
            None, f"{shown} is not of this model, by what dvc.lock says: it is left out."
        )
    return Metrics(values, f"{shown} is of this model: dvc.lock holds the digests of both.")


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without anchors, which DVC never writes: a few make a file of a billion items."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("found an alias")
        return super().compose_node(parent, index)


def _read_lock(path: Path) -> Any:
    # No subclass of yaml's safe loader makes anything but plain values.
    return yaml.load(read_regular(path, _MAX_LOCK_BYTES).decode(), _PlainLoader)


def _parse(content: bytes) -> Any:
    """Return JSON's values.

    Raises:
        ValueError: it is no JSON, holds a number that is none, or lists in lists without end.
    """
    values = json.loads(content.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    waiting = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("lists in lists")
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            waiting += [(each, depth + 1) for each in inside]
    return values


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):  # 1e999
        _refuse_constant(text)
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def read_comparison(root: Path, model_dir: Path) -> Metrics:
    """Return metrics/comparison.json of a checkout, where a row of it has the model's digest.

    That row is the one that `this` numbers.
    """
    try:
        values = _parse(read_regular(root / COMPARISON, _MAX_METRICS_BYTES))
        digests = [row["model_md5"] for row in values["rows"]]
    except FileNotFoundError:
        return Metrics(
            None, f"There is no {COMPARISON} beside the model: `make compare` writes it."
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Metrics(None, f"{COMPARISON} can't be read: `make compare` writes it anew.")
    model = next((digest for digest in _digests(model_dir) if digest in digests), None)
    if model is None:
        return Metrics(None, f"{COMPARISON} is of other models: `make compare` writes it anew.")
    return Metrics(
        values | {"this": digests.index(model)}, f"{COMPARISON} has this model's digest."
    )


def _digests(model_dir: Path) -> list[str]:
    """Return DVC's digest of a model, and of what it was before it was calibrated.

    A calibration changes what scores mean, not the scores: their metrics are still its own. What
    else has changed makes it another model.
    """
    own = dvc_digest(model_dir)
    return [own, dvc_digest_before(model_dir)] if was_only_calibrated(model_dir) else [own]


def was_only_calibrated(model_dir: Path) -> bool:
    """Say whether a model was calibrated, and nothing else of it has changed since."""
    try:
        now, then = read_settings(model_dir), read_settings(model_dir / CALIBRATION)
    except WeightsError:  # it was not calibrated
        return False
    return replace(then, temperature=now.temperature, limits=now.limits, promise=now.promise) == now


# ---------------------------------------------------------------- the card


@dataclass(frozen=True)
class CardSection:
    """A chapter of a model card: its title and its paragraphs, lists and tables."""

    title: str
    blocks: tuple[tuple[str, Any], ...]  # ("text", str), ("list", [str]), ("table", [[str]])


def read_card(model_dir: Path) -> tuple[CardSection, ...]:
    """Return the chapters of the model's card; none where it has no card, or one of 256 KiB.

    Its head, YAML for the Hugging Face Hub, is for machines, and is neither read nor shown.
    """
    try:
        text = read_regular(model_dir / CARD, _MAX_CARD_BYTES).decode(errors="replace")
    except OSError:
        return ()
    _, body = split_head(text)
    title, *chapters = f"\n{body}".split("\n## ")
    del title  # the name of the backbone, and what any model is
    return tuple(_chapter(chapter) for chapter in chapters)


def _chapter(text: str) -> CardSection:
    title, _, body = text.partition("\n")
    blocks = [found for block in body.split("\n\n") if (found := _block(block))]
    return CardSection(title.strip(), tuple(blocks))


def _block(text: str) -> tuple[str, Any] | None:
    """Return what a paragraph is; None where it is empty but for its marks. Any text is one.

    Commands keep their backticks.
    """
    plain = text.replace("**", "").replace("```", "")
    lines = [line for line in plain.split("\n") if line.strip("` ")]
    if not lines:
        return None
    if lines[0].startswith("|"):
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
        return "table", [rows[0], *rows[2:]]
    if lines[0].startswith("- "):
        items = "\n".join(["", *lines]).split("\n- ")[1:]
        return "list", [" ".join(item.split()) for item in items]
    return "text", " ".join(plain.split())
