"""The model card of a detector that others trained."""

import textwrap

from unmask.models.adopt.adapter import Adapter, Converted
from unmask.models.adopt.record import Adopted
from unmask.models.model_card import CARD_USE

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
        "## Licence\n\n" + "\n".join(terms) + _paragraph(licence.why),
        CARD_USE,
        "## What it was trained on"
        + _paragraph(adopted.trained_on or "Its description does not say.")
        + _paragraph(adapter.published),
        "## Input"
        + _paragraph(
            "Face crops in RGB from the cropper that `unmask predict` runs: a square around the "
            f"detected box with {geometry.margin_ratio:.0%} margin on every side, "
            f"{geometry.side_px} x {geometry.side_px} px. {adapter.differs}"
        ),
        "## When it says fake, real or neither"
        + _paragraph(
            "It says neither: it gives a score, and every verdict is `inconclusive`. No threshold "
            "was learned, as nothing is known of its errors on footage like yours. Its published "
            "numbers are of other videos."
        ),
        "## What was verified"
        + _paragraph(f"Read: {adapter.read}")
        + _paragraph(adapter.untried)
        + _paragraph(NOBODY_CHECKED if adapter.check is None else ""),
        "## How to use it\n\n    unmask predict clip.mp4 --model FOLDER",
    ]
    return "\n\n".join(sections) + "\n"


def _plain(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ").replace("|", "/").replace("<", "&lt;")


def _paragraph(text: str) -> str:
    return "\n\n" + _wrapped(_plain(text)) if text else ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
