"""An answer as HTML: the verdict in words, each face's scores over time as a picture."""

from collections.abc import Mapping
from html import escape
from typing import Any

from unmask.answers.messages import percent
from unmask.answers.timeline import group
from unmask.runtime.templates import in_words
from unmask.serve.inference import Result

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 190, 60, 540, 12, 156
_MOST_TICKS = 6
# Never a probability: what is calibrated on genuine videos is who is called fake, not the score.
_SCORE = "score of the most suspicious face, where 0% looks real and 100% looks fake"
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600)


def draw_verdict(result: Result) -> str:
    """Return the verdict as a card: told by word as well as by colour."""
    probability = result.row["probability"]
    score = (
        f'<p class="score"><b>{percent(probability)}</b><br>{_SCORE}</p>'
        if probability is not None
        else ""
    )
    doubts = "".join(f"<li>{in_words(doubt)}</li>" for doubt in result.doubts)
    verdict = escape(result.row["verdict"])
    promise = f"<p>{in_words(' '.join(result.promise))}</p>" if result.promise else ""
    origin = f"<p>{escape(result.origin)}</p>" if result.origin else ""
    return (
        f'<section class="verdict {verdict}" aria-label="Verdict">'
        f'<div><p class="label">Verdict: <span id="verdict">{verdict}</span></p>'
        f"<h2>{escape(result.headline)}</h2><p>{escape(result.sentence)}</p>"
        f"{f'<ul>{doubts}</ul>' if doubts else ''}{promise}{origin}</div>{score}</section>"
    )


def draw_faces(row: Mapping[str, Any]) -> str:
    """Return a picture of each face's scores over time."""
    end_s = max([row["duration_s"] or 0, *(face["end_s"] for face in row["faces"])], default=0)
    return "".join(
        _draw_face(number, face, row["clip_s"], end_s)
        for number, face in enumerate(row["faces"], start=1)
    )


def _draw_face(number: int, face: Mapping[str, Any], clip_s: float, end_s: float) -> str:
    def x(time_s: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * min(time_s / end_s, 1), 1)

    def y(score: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * score, 1)

    step_s = next((s for s in _STEPS_S if end_s / s <= _MOST_TICKS), _STEPS_S[-1])
    ticks = [step_s * index for index in range(int(end_s / step_s) + 1)]
    step = group(len(face["timeline"]))
    moments = [
        max(face["timeline"][start : start + step], key=lambda moment: moment["probability"])
        for start in range(0, len(face["timeline"]), step)
    ]
    worst = max(moments, key=lambda moment: moment["probability"])
    words = (
        f"Face {number}, seen from {face['start_s']:.1f} to {face['end_s']:.1f} s: "
        f"{face['verdict']}, {percent(face['probability'])}. Highest at {worst['time_s']:.1f} s: "
        f"{percent(worst['probability'])}."
    )
    stretch = face["stretch"]
    if (stretch["start_s"], stretch["end_s"]) != (face["start_s"], face["end_s"]):
        words += (
            f" Most like a fake from {stretch['start_s']:.1f} to {stretch['end_s']:.1f} s: "
            f"{percent(stretch['probability'])}."
        )
    if face["looked_at_ratio"] < 1:
        words += f" Looked at: {percent(face['looked_at_ratio'])} of that time."
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(score)}" y2="{y(score)}"/>'
        f'<text x="{_LEFT - 6}" y="{y(score) + 4}" text-anchor="end">{score:.0%}</text>'
        for score in (0, 0.5, 1)
    ) + "".join(
        f'<text x="{x(tick)}" y="{_BOTTOM + 20}" text-anchor="middle">{tick:g} s</text>'
        for tick in ticks
    )
    middles = " ".join(f"{x(m['time_s'] + clip_s / 2)},{y(m['probability'])}" for m in moments)
    clips = "".join(
        f'<line class="clip" x1="{x(m["time_s"])}" x2="{x(m["time_s"] + clip_s)}" '
        f'y1="{y(m["probability"])}" y2="{y(m["probability"])}"><title>{m["time_s"]:.1f} to '
        f"{m['time_s'] + clip_s:.1f} s: {percent(m['probability'])}</title></line>"
        for m in moments
    )
    seen = (
        f'<rect class="seen" x="{x(face["start_s"])}" y="{_TOP}" height="{_BOTTOM - _TOP}" '
        f'width="{max(1.0, x(face["end_s"]) - x(face["start_s"]))}"/>'
    )
    return (
        f'<figure class="face {escape(face["verdict"])}"><svg role="img" '
        f'aria-label="{escape(words)}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{seen}{grid}'
        f'<polyline points="{middles}"/>{clips}</svg><figcaption>{escape(words)}</figcaption>'
        "</figure>"
    )


# Okabe & Ito, "Color universal design", 2008, as in reports.
STYLE = """
.gradio-container { max-width: 860px !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 10px 0 0; }
header h1 { font-size: 1.7rem; margin: .4rem 0 .2rem; }
header .facts { margin: .6rem 0 0; padding-left: 1.1rem; font-size: .92rem; list-style: disc;
  color: var(--body-text-color-subdued); }
header .facts li { margin: .15rem 0; }
.fake { --verdict: #E6751A; } .real { --verdict: #56B4E9; } .inconclusive { --verdict: #C9BC1F; }
.verdict { display: flex; gap: 1.2rem; justify-content: space-between; flex-wrap: wrap;
  padding: 1rem 1.2rem; border-radius: 10px; border: 1px solid var(--border-color-primary);
  border-left: 10px solid var(--verdict); background: var(--background-fill-secondary); }
.verdict > div { flex: 1 1 18rem; } .verdict h2 { margin: .1rem 0 .3rem; font-size: 1.45rem; }
.verdict .label { font-size: .9rem; color: var(--body-text-color-subdued); }
.verdict .label span { font-weight: 700; text-transform: uppercase; color: var(--body-text-color); }
.verdict ul { list-style: disc; padding-left: 1.1rem; margin-top: .4rem; }
.verdict .score { max-width: 13rem; text-align: right; font-size: .85rem;
  color: var(--body-text-color-subdued); }
.verdict .score b { font-size: 2rem; color: var(--body-text-color); }
.face { margin: 1rem 0 0; } .face svg { width: 100%; height: auto; display: block; }
.face svg text { font-size: 12px; fill: var(--body-text-color-subdued); }
.face .grid { stroke: var(--border-color-primary); }
.face .seen { fill: var(--verdict); opacity: .1; }
.face polyline { fill: none; stroke: var(--body-text-color-subdued); stroke-dasharray: 3 4; }
.face .clip { stroke: var(--verdict); stroke-width: 6; stroke-linecap: round; }
.face figcaption { font-size: .92rem; margin-top: .2rem; }
#result details { margin-top: 1rem; } #result summary { cursor: pointer; }
#result pre { max-height: 20rem; overflow: auto; font-size: .8rem; padding: .8rem;
  background: var(--background-fill-secondary); border-radius: 8px; }
#report h2 { font-size: 1.2rem; margin: .8rem 0 .4rem; }
#report iframe { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary);
  border-radius: 10px; background: #fff; }
#status { min-height: 5rem; }
.problem { padding: .9rem 1.1rem; border-radius: 10px; border-left: 10px solid #D55E00;
  background: var(--background-fill-secondary); }
.note { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
#cancel { max-width: 10rem; margin: 0 auto; }
#saves, #clip, #cancel { margin-left: 0; }
@media (max-width: 600px) {
  .face svg text { font-size: 19px; }
  .verdict .score { text-align: left; }
}
"""
