"""The folder of a calibrated model: written at once, with what it replaced, and undone."""

import shutil
from pathlib import Path

from unmask.answers import messages
from unmask.answers.calibration import CalibrationError, Learned
from unmask.models import checkpoint as checkpoints
from unmask.models import looks as looks_file
from unmask.models.checkpoint import Checkpoint
from unmask.runtime.disk import content_digest, write_atomically
from unmask.scoring.promises import Promise

CARD_SECTION = "When it says fake, real or neither"
SOURCE_SECTION = "Where the model was fetched"


def work_folder(target: Path) -> Path:
    """Return the folder beside a model that keeps what an interrupted calibration has done."""
    return target.with_name(f".{target.name}.calibration")


def weights_digest(model_dir: Path) -> str:
    """Return the SHA-256 of a model's weights."""
    return content_digest(model_dir / checkpoints.WEIGHTS)


def base_settings(model_dir: Path) -> Checkpoint:
    """Return the settings that the model had before it was calibrated for the first time.

    Raises:
        WeightsError: the folder is no model's.
    """
    return checkpoints.read_settings(_originals(model_dir))


def _originals(model_dir: Path) -> Path:
    kept = model_dir / looks_file.FOLDER
    return kept if (kept / checkpoints.SETTINGS).is_file() else model_dir


def check_target(target: Path) -> None:
    """Pass if a calibrated model may be written there: nothing is there, or an earlier one.

    Raises:
        CalibrationError: something else is there.
    """
    if target.exists() and not (target / looks_file.FOLDER / looks_file.LOOKS).is_file():
        raise CalibrationError(
            f"Asked to write the calibrated model as {target}; something else is there. Name a "
            "folder that does not exist yet."
        )


def store(
    model_dir: Path, target: Path, learned: Learned, work: Path, *, source: str | None = None
) -> None:
    """Put the calibrated model in target's place, at once; model_dir and target may be the same.

    It keeps what it replaces in its folder `calibration`, for undo. source is hf:OWNER/NAME@COMMIT
    of a model that was fetched from the Hub: the card names it from then on, after undo, too.

    Raises:
        DiskError: the disk takes no more.
    """
    whole, originals = _copied(model_dir, work), _originals(model_dir)
    kept = whole / looks_file.FOLDER
    kept.mkdir()
    shutil.copyfile(originals / checkpoints.SETTINGS, kept / checkpoints.SETTINGS)
    card = originals / checkpoints.CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "# Model\n"
    if source is not None:
        text = _with_section(text, SOURCE_SECTION, f"It was fetched from `{source}`.")
        write_atomically(kept / checkpoints.CARD, text)
    elif card.is_file():
        shutil.copyfile(card, kept / checkpoints.CARD)
    write_atomically(kept / looks_file.LOOKS, looks_file.to_bytes(learned.looks))
    checkpoints.write_settings(whole, learned.checkpoint)
    assert learned.checkpoint.promise is not None
    write_atomically(whole / checkpoints.CARD, card_with(text, learned.checkpoint.promise))
    checkpoints.swap(whole, target)


def undo(model_dir: Path, work: Path) -> None:
    """Give a model the settings and the card back that it had before it was calibrated.

    Raises:
        CalibrationError: it was not calibrated.
        DiskError: the disk takes no more.
    """
    originals = _originals(model_dir)
    if originals == model_dir:
        raise CalibrationError(
            f"Asked to undo the calibration of {model_dir}; it has none. Nothing was changed."
        )
    whole = _copied(model_dir, work)
    (whole / checkpoints.CARD).unlink(missing_ok=True)
    for name in (checkpoints.SETTINGS, checkpoints.CARD):
        if (originals / name).is_file():
            shutil.copyfile(originals / name, whole / name)
    checkpoints.swap(whole, model_dir)


def recover(target: Path, work: Path) -> None:
    """Bring the model back that a run moved aside which was killed before it put in the new one."""
    old = work / "old"
    if old.is_dir() and not target.exists():
        old.rename(target)


def _copied(model_dir: Path, work: Path) -> Path:
    whole = work / "model"
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(model_dir, whole, ignore=shutil.ignore_patterns(looks_file.FOLDER))
    return whole


def card_with(card: str, promise: Promise) -> str:
    """Return a model's card that says what its verdicts rest on, in the place of what it said."""
    lines = [
        *messages.promised(promise),
        "A face that is unlike those of the calibration gets no verdict.",
        f"Calibrated on {promise.made[:10]} by unmask {promise.version}. The genuine videos' "
        f"digest is {promise.genuine_sha256}.",
    ]
    strata = "".join(f"- {line}\n" for line in messages.strata_lines(promise.strata))
    return _with_section(card, CARD_SECTION, "\n\n".join([*lines, *([strata] if strata else [])]))


def _with_section(card: str, heading: str, words: str) -> str:
    """Return a card with a section of these words, which replaces one of the same heading."""
    section = f"## {heading}\n\n{words.rstrip()}\n"
    before, found, rest = card.partition(f"## {heading}\n")
    if not found:
        return f"{card.rstrip()}\n\n{section}"
    _, mark, after = rest.partition("\n## ")
    return f"{before}{section}" + (f"\n## {after}" if mark else "")
