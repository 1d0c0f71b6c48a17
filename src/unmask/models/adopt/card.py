"""The model card of a detector that others trained."""

import textwrap
from collections.abc import Sequence
from typing import Any

from unmask.models.adopt.adapter import Adapter, Converted
from unmask.models.adopt.record import Adopted, Origin, Start
from unmask.models.card_head import with_head
from unmask.models.model_card import CARD_USE
from unmask.models.model_card import plain as _plain

NOBODY_CHECKED = (
    "Nobody has compared its scores with published ones: its repository prints none that this "
    "version knows, or `unmask adopt --check` was not run."
)


def write(adapter: Adapter, adopted: Adopted, converted: Converted, *, parameters: int) -> str:
    """Return the card in Markdown: whose it is, under which terms, what it is shown, what it says.

    What a stranger's description says stands in it as text: no line of it begins a chapter.
    """
    licence, geometry = adopted.licence, converted.crop
    terms = [
        f"- Code: {_plain(licence.code)}",
        f"- Weights: {_plain(licence.weights)}",
    ]
    if not licence.free:
        terms.append("- Accepted by whoever adopted it here (`--accept-licence`)")
    origin = [
        f"- Source: `{_plain(adopted.source)}`",
        f"- Commit: {adopted.commit or 'none: it came as a file'}",
        f"- File: `{_plain(adopted.file)}`, sha256 {adopted.sha256}",
        f"- Adapter: {adopted.adapter}",
        f"- Net: {adopted.architecture.net}, {parameters:,} parameters",
    ]
    sections = [
        f"# {_plain(adopted.title)}: real or fake?",
        _wrapped(
            "A published detector that others trained, adopted by `unmask adopt`. It scores single "
            "pictures of a face; a video's score is that of its most suspicious face."
        ),
        "## Where it comes from\n\n" + "\n".join(origin),
        "## Licence\n\n" + "\n".join(terms) + _paragraph(_plain(licence.why)),
        CARD_USE,
        "## What it was trained on"
        + _paragraph(_plain(adopted.trained_on) or "Its description does not say.")
        + _paragraph(_plain(adapter.published)),
        "## Input"
        + _paragraph(
            "Face crops in RGB from the cropper that `unmask predict` runs: a square around the "
            f"detected box with {geometry.margin_ratio:.0%} margin on every side, "
            f"{geometry.side_px} x {geometry.side_px} px. {_plain(adapter.differs)}"
        ),
        "## When it says fake, real or neither"
        + _paragraph(
            "It says neither: it gives a score, and every verdict is `inconclusive`. No threshold "
            "was learned, as nothing is known of its errors on footage like yours. Its published "
            "numbers are of other videos."
        ),
        "## What was verified"
        + _paragraph(f"Read: {_plain(adapter.read)}")
        + _paragraph(_plain(adapter.untried))
        + _paragraph(NOBODY_CHECKED if adapter.check is None else ""),
        "## How to use it\n\n    unmask predict clip.mp4 --model FOLDER",
    ]
    head = head_of(adopted, [adopted.architecture.net])
    return with_head(head, "\n\n".join(sections) + "\n")


def write_start(adapter: Adapter, start: Start) -> str:
    """Return the card of weights that a training can start from, but that are no detector."""
    licence = start.licence
    sections = [
        f"# {_plain(start.title)}: a start for a training",
        _wrapped(
            "Weights that others trained for another task, adopted by `unmask adopt`. They have no "
            "head of real and fake, and answer nothing: a training starts from them."
        ),
        f"## Where they come from\n\n- Source: `{_plain(start.source)}`\n- Commit: "
        f"{start.commit or 'none: they came as a file'}\n- File: `{_plain(start.file)}`, sha256 "
        f"{start.sha256}\n- Adapter: {start.adapter}",
        f"## Licence\n\n- Code: {_plain(licence.code)}\n- Weights: {_plain(licence.weights)}"
        + _paragraph(_plain(licence.why)),
        "## What they were trained on" + _paragraph(_plain(start.trained_on)),
        "## What was verified"
        + _paragraph(f"Read: {_plain(adapter.read)}")
        + _paragraph(_plain(adapter.untried)),
        f"## How to use them\n\nIn params.yaml, `model.backbone: {start.backbone}`, "
        "`model.weights:` this folder, and `model.weights_sha256:` that of its "
        "weights.safetensors.",
    ]
    return with_head(head_of(start, [start.backbone]), "\n\n".join(sections) + "\n")


def head_of(origin: Origin, tags: Sequence[str]) -> dict[str, Any]:
    """Return the head's values, by the Hub's names; a licence that the Hub has no name for is
    `other`."""
    terms = origin.licence.weights
    named = {"license": _HUB_LICENCES.get(terms, "other")}
    if named["license"] == "other":
        named["license_name"] = _plain(terms)
    return {
        **named,
        "library_name": "unmask",
        "pipeline_tag": "video-classification",
        "tags": ["deepfake-detection", "face-forgery-detection", "unmask", "pytorch", *tags],
    }


# The Hub's names: https://huggingface.co/docs/hub/repositories-licenses
_HUB_LICENCES = {
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
    "CC BY 4.0": "cc-by-4.0",
}


def _paragraph(text: str) -> str:
    return "\n\n" + _wrapped(text) if text else ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
