"""An answer in plain words: what the verdict says, what speaks against relying on it."""

from collections.abc import Sequence

from unmask.answers.analysis import Answer, FaceAnswer
from unmask.answers.file_says import State
from unmask.models.checkpoint import Checkpoint
from unmask.records import Reason
from unmask.scoring.promises import Promise, Stratum
from unmask.scoring.unlike import Likeness
from unmask.scoring.verdicts import Doubt, Limits, Verdict

HEADLINES = {
    Verdict.FAKE: "Likely manipulated",
    Verdict.REAL: "No sign of manipulation",
    Verdict.INCONCLUSIVE: "No answer",
}
CAUTION = (
    "A score is evidence, not proof. A high one does not show that somebody forged this video, a "
    "low one does not show that it is genuine. It says nothing about who made it, why, or whether "
    "what is said in it is true, and it does not listen to the sound."
)
CREDENTIALS = {
    State.ABSENT: "It has no content credentials (C2PA). Most files have none, genuine or not, and "
    "they are lost when a file is encoded again: nothing follows from this.",
    State.TRUSTED: "It has content credentials (C2PA), and is as it was when it was signed, by "
    "somebody whose certificate leads to one of the list that was given (--trust).",
    State.VALID: "It has content credentials (C2PA), and is as it was when it was signed. By whom "
    "is not known: anybody can make a certificate in any name, and this one leads to none that "
    "was given by --trust.",
    State.INVALID: "It has content credentials (C2PA) that do not hold: the file was changed after "
    "it was signed, or it was signed wrongly. They show nothing.",
    State.ELSEWHERE: "It names an address where its content credentials (C2PA) are. That was not "
    "asked.",
    State.UNREADABLE: "Its content credentials (C2PA) can't be read.",
    State.NOT_READ: "Whether it has content credentials (C2PA) was not looked at.",
}
REMEDY = (
    "`unmask calibrate GENUINE...`, with genuine videos of the kind that you ask about, changes "
    "that."
)
_MOST_DECIMALS = 6  # of a percentage
LITTLE_USE = 0.5  # a share of fakes found below which a model is of little use
_MEASURES = {
    "features": "what the net sees in it",
    "codec": "the codec of its file",
    "size": "the face's size",
    "sharpness": "its sharpness",
    "grain": "its grain",
    "light": "its brightness",
    "bitrate": "how many bits the file has for its pixels",
    "time": "how long faces are seen in the video",
}
REASONS = {
    Reason.MISSING: "There is no file of that name.",
    Reason.FORBIDDEN: "The file may not be read by this user.",
    Reason.EMPTY: "The file is empty.",
    Reason.NOT_A_VIDEO: "The file is not a video, or has no picture.",
    Reason.UNREADABLE: "No frame of the file can be decoded: it is damaged or cut off.",
    Reason.CRASHED: "The decoder crashed on this file.",
    Reason.OUT_OF_MEMORY: "Decoding this file asks for more memory than one file may have.",
    Reason.TIMED_OUT: "Decoding this file came to a halt.",
    Reason.TRUNCATED: "The file ends before its video does: what follows was not seen.",
    Reason.INCOMPLETE: "Not all that the file shows can be decoded: some of it was not seen.",
    Reason.NO_FACE: "No face was found in any picture that was looked at.",
    Reason.TOO_SHORT: "A face was found, but for too short a time to be scored.",
    Reason.TOO_FEW_FRAMES: "A face was found, but its picture changes too seldom to be scored.",
}

_PLAIN = {
    Doubt.NO_SCORE: "There is no score.",
    Doubt.STILL_PICTURE: "It is a still picture. Nothing moves in it, and models learn from "
    "videos, so its score is weaker evidence than a video's, and never a verdict.",
    Doubt.NOT_CALIBRATED: "Nobody has calibrated this model on genuine videos of a known kind, so "
    f"no score of it is a verdict. {REMEDY}",
    Doubt.UNLIKE_CALIBRATION: "A face is unlike those that this model was calibrated on, so that "
    "its promise is not about this video.",
    Doubt.BETWEEN_THRESHOLDS: "A score is neither high nor low enough to tell.",
    Doubt.SUSPICIOUS_STRETCH: "A part of a face's time looks fake, though the face as a whole does "
    "not.",
    Doubt.PARTLY_SEEN: "A face is seen for so long that much of its time was not looked at.",
    Doubt.FACE_TOO_SMALL: "A face is smaller than those that the model knows.",
    Doubt.TOO_SHORT: "A face is seen for a shorter time than those that the model knows.",
    Doubt.TOO_BLURRED: "A face is more blurred than those that the model knows.",
    Doubt.OUT_OF_TRAINED_RANGE: "A face is darker, brighter or grainier than those that the model "
    "knows.",
    Doubt.BROKEN_OFF: "The file ends before its video does: what follows was not seen.",
    Doubt.NOT_ALL_SEEN: "Not all that the file shows can be decoded: some of it was not seen.",
    Doubt.TOO_FEW_FRAMES: "A face was not scored, as its picture changes too seldom.",
    Doubt.COLOUR_NOT_UNDERSTOOD: "The colours of the file are not understood: what was scored is "
    "not what players show.",
}
# Of a still picture: no calibration would make its score a verdict.
_OF_STILL = {
    Doubt.NOT_CALIBRATED: "Nobody has calibrated this model on genuine videos of a known kind.",
    Doubt.UNLIKE_CALIBRATION: "A face is unlike those of the videos that this model was calibrated "
    "on.",
    Doubt.BETWEEN_THRESHOLDS: "In a video, too, its score would be neither high nor low enough to "
    "tell.",
}
_STILL_RULE = (
    "A still picture gets a score, and never a verdict: what the model promises, and from which "
    "score on it calls a face fake or real, was learned from videos and is not about pictures."
)


def sentence(answer: Answer) -> str:
    """Return what the verdict of a video says, in a sentence."""
    if answer.probability is not None and answer.still:
        return (
            "The model gave a score, but of a still picture. That is weak evidence, and no verdict."
        )
    if answer.probability is None:
        return "Nothing in this file could be scored, so nothing is said about it."
    if answer.verdict is Verdict.FAKE:
        count = sum(face.verdict is Verdict.FAKE for face in answer.faces)
        faces = "a face" if count == 1 else f"{count} faces"
        return f"The model finds traces of manipulation in {faces} of this video."
    if answer.verdict is Verdict.REAL:
        return "The model finds none of the traces of manipulation that it knows in this video."
    if answer.promise is None:
        return "The model gave a score, but it promises nothing: the score is no verdict."
    return "The model gave a score, but it is not one to rely on. The score alone is no verdict."


def origin_of(checkpoint: Checkpoint) -> str | None:
    """Return who trained a model and under which licence, in words; None where it began here."""
    others = checkpoint.adopted or checkpoint.began_as
    if others is None:
        return None
    if checkpoint.adopted:
        return f"Others trained this model: {others.title}. Licence: {others.licence.weights}."
    return (
        f"This model was trained on from weights of others: {others.title}. Licence of those "
        f"weights: {others.licence.weights}."
    )


def doubts_of(answer: Answer) -> list[str]:
    """Return why a video has no verdict, or what else is wrong with it, a sentence each."""
    said = [REASONS[answer.reason]] if answer.reason else []
    if words := stretch_of(answer):
        said.append(words)
    # The reason says these better.
    told = {Doubt.NO_SCORE, Doubt.BROKEN_OFF} | ({Doubt.SUSPICIOUS_STRETCH} if words else set())
    if answer.reason is Reason.INCOMPLETE:
        told.add(Doubt.NOT_ALL_SEEN)
    plain = _PLAIN | _OF_STILL if Doubt.STILL_PICTURE in answer.doubts else _PLAIN
    return said + [plain[doubt] for doubt in answer.doubts if doubt not in told]


def stretch_of(answer: Answer) -> str | None:
    """Return from when to when a part of the video looks fake, where it is a part that does."""
    parts = [
        (number, face.part)
        for number, face in enumerate(answer.faces, start=1)
        if Doubt.SUSPICIOUS_STRETCH in face.doubts
        or (face.verdict is Verdict.FAKE and face.part.count > 1)
    ]
    if not parts:
        return None
    number, part = max(parts, key=lambda each: each[1].probability)
    return (
        f"Face {number} looks most like a fake from {part.start_s:.1f} to {part.end_s:.1f} s: "
        f"that part alone has a score of {percent(part.probability)}."
    )


def doubts_of_face(face: FaceAnswer, limits: Limits) -> list[str]:
    """Return why a face has no verdict, a sentence each, with its numbers and the model's."""
    quality, part = face.quality, face.part
    unlike = face.likeness or Likeness(0.0, "features")
    said = {
        Doubt.UNLIKE_CALIBRATION: "It is unlike the faces that this model was calibrated on, by "
        f"{_MEASURES[unlike.by]} most: of videos like those, {percent(unlike.p_value)} are as far "
        "from the others.",
        Doubt.BETWEEN_THRESHOLDS: _between(face.probability, limits),
        Doubt.SUSPICIOUS_STRETCH: f"As a whole it looks real, but from {part.start_s:.1f} to "
        f"{part.end_s:.1f} s its score is {percent(part.probability)}, and that of a single clip "
        f"up to {percent(part.moment)}.",
        Doubt.PARTLY_SEEN: f"Only {quality.looked_at_ratio:.0%} of its time was looked at: it is "
        f"seen for {quality.track_s:.0f} s, more than the model's clips can cover.",
        Doubt.FACE_TOO_SMALL: f"It is {quality.face_px:.0f} px in size; the model knows faces of "
        f"{limits.min_face_px:.0f} px and more.",
        Doubt.TOO_SHORT: f"It is seen for {quality.track_s:.1f} s; the model knows faces that are "
        f"seen for {limits.min_track_s:.1f} s and more.",
        Doubt.TOO_BLURRED: "It is more blurred than the faces that the model knows: its sharpness "
        f"is {quality.sharpness:.3g}, theirs {limits.min_sharpness:.3g} and more.",
        Doubt.OUT_OF_TRAINED_RANGE: "It is darker, brighter or grainier than the faces that the "
        f"model knows: its brightness is {quality.brightness:.2f}, theirs "
        f"{limits.min_brightness:.2f} to {limits.max_brightness:.2f}; its sharpness is "
        f"{quality.sharpness:.3g}, theirs up to {limits.max_sharpness:.3g}.",
    }
    if Doubt.STILL_PICTURE in face.doubts:
        said |= {doubt: _OF_STILL[doubt] for doubt in (Doubt.BETWEEN_THRESHOLDS,
                                                       Doubt.NOT_CALIBRATED)}  # fmt: skip
    return [said.get(doubt, _PLAIN[doubt]) for doubt in face.doubts]


def _between(probability: float, limits: Limits) -> str:
    """Return where a score lies that is neither fake nor real; no threshold is made up."""
    fake_from, real_to = limits.fake_from, limits.real_to
    score, known = _told_apart(
        probability, [each for each in (real_to, fake_from) if each is not None]
    )  # fmt: skip
    if real_to is not None and fake_from is not None:
        return f"Its score, {score}, lies between {known[0]} (real) and {known[1]} (fake)."
    if fake_from is not None:
        return (
            f"Its score, {score}, is below {known[0]} (fake), and no score is low enough to be "
            "called real."
        )
    if real_to is not None:
        return (
            f"Its score, {score}, is above {known[0]} (real), and no score is high enough to be "
            "called fake."
        )
    return f"Its score is {score}, and no score is high or low enough to be called fake or real."


def rules_of(answer: Answer) -> list[str]:
    """Return what an answer's verdict follows, a sentence each."""
    return [_STILL_RULE] if answer.still else rules(answer.limits, answer.promise)


def promise_of(answer: Answer) -> list[str]:
    """Return what is promised of an answer, a sentence each; nothing of a still picture."""
    return [] if answer.promise is None or answer.still else promised(answer.promise)


def rules(limits: Limits, promise: Promise | None) -> list[str]:
    """Return what the model's verdicts follow, a sentence each; limits are a video's own."""
    if promise is None:
        return [
            "This model has no promise: nobody has calibrated it on genuine videos of a known "
            f"kind. So it gives scores, and calls nothing fake or real. {REMEDY}"
        ]
    said = [*promised(promise), *_thresholds_of(limits)]
    if promise.strata:
        said.append(
            f"The threshold for fake is that of videos whose most suspicious face is about as "
            f"large and as sharp as this one's; there are {len(promise.strata)} such groups."
        )
    if promise.looks_sha256 is not None:
        said.append(
            "A face that is unlike those of the calibration gets no verdict. That is measured by "
            "size, sharpness, grain, brightness, bitrate, codec and time, and by what the net "
            "sees, unless that was left out: of videos like those, at most "
            f"{promise.unlike_to:.0%} are told so."
        )
    return said


def promised(promise: Promise) -> list[str]:
    """Return what a model promises and what it finds, a sentence each."""
    kind = f" ({promise.kind})" if promise.kind else ""
    checked = "one video fewer would be too few to check it by leaving one out"
    if promise.left_out:
        checked = f"found by leaving one out: {promise.false_alarms} of {promise.left_out}"
    said = [
        f"Of genuine videos like the {promise.genuine} that it was calibrated on{kind}, at most "
        f"{one_in(promise.max_false_alarms)} is called fake ({checked})."
    ]
    if promise.power is None or promise.power_low is None or promise.power_high is None:
        return [*said, "How many fakes it finds is not known: no fakes were given."]
    found = (
        f"Of the {promise.fakes} fakes that were given, {promise.power:.0%} are found "
        f"[{promise.power_low:.0%}, {promise.power_high:.0%}]"
    )
    if promise.power < LITTLE_USE:
        found += ": this model is of little use on footage like that"
    said.append(f"{found}.")
    if promise.silenced:
        said.append(
            f"{promise.silenced} more of them have a score as high, but get no verdict, as they "
            "are unlike the genuine videos."
        )
    return said


def one_in(ratio: float) -> str:
    """Return a ratio as people say it.

    >>> one_in(0.05), one_in(0.03)
    ('1 in 20', '3% of them')
    """
    count = round(1 / ratio)
    return f"1 in {count}" if abs(count * ratio - 1) < 1e-6 else f"{100 * ratio:.3g}% of them"


def strata_lines(strata: Sequence[Stratum]) -> list[str]:
    """Return a line for each group of videos that has a threshold of its own."""
    return [
        f"face {_range(each.min_face_px, each.max_face_px, '.0f')} px, sharpness "
        f"{_range(each.min_sharpness, each.max_sharpness, '.3g')}: {each.genuine} videos, "
        + ("never fake" if each.fake_from is None else f"fake from {each.fake_from:.3f}")
        for each in strata
    ]


def _range(least: float | None, below: float | None, form: str) -> str:
    if least is None and below is None:
        return "of any"
    if least is None:
        return f"under {below:{form}}"
    return f"from {least:{form}}" if below is None else f"{least:{form}} to {below:{form}}"


def _thresholds_of(limits: Limits) -> list[str]:
    said = []
    if limits.fake_from is None:
        said.append("No score of this model is high enough to call a face fake.")
    else:
        said.append(f"A face is called fake at a score of {exactly(limits.fake_from)} or more.")
    if limits.real_to is None:
        said.append("No score of this model is low enough to call a face real.")
    else:
        said.append(f"A face is called real at a score of {exactly(limits.real_to)} or less.")
    if limits.stretches:
        said.append(
            "In a longer face a stretch of a few seconds is enough to call it fake, at a score of "
            f"{exactly(limits.stretches[0][1])} or more, in videos of at most "
            f"{limits.stretches[-1][0]} stretches."
        )
    else:
        said.append("No stretch of a longer face is enough by itself to call it fake.")
    if limits.real_to is not None:
        said.append(
            "No face is called real in which a stretch of a few seconds by itself has a higher "
            "score than that, or in which a single clip is as high as a fake's."
        )
    return said


def percent(probability: float) -> str:
    """Return a probability for readers, never rounded to certainty.

    >>> percent(0.934), percent(0.9999), percent(0.0001)
    ('93%', 'over 99%', 'under 1%')
    """
    if probability > 0.99:
        return "over 99%"
    return "under 1%" if probability < 0.01 else f"{probability:.0%}"


def exactly(probability: float) -> str:
    """Return a threshold for readers, to a twentieth of what it is from 0 or 1 at most.

    "A score of over 99% or more" would not say where a verdict begins.

    >>> exactly(0.8), exactly(0.93421), exactly(0.99853), exactly(0.0004), exactly(1.0)
    ('80%', '93.4%', '99.85%', '0.04%', '100%')
    """
    most_off = 0.05 * min(probability, 1 - probability)
    decimals = next(
        (each for each in range(_MOST_DECIMALS)
         if abs(round(probability, each + 2) - probability) <= most_off),
        _MOST_DECIMALS,
    )  # fmt: skip
    return f"{probability:.{decimals}%}"


def _told_apart(score: float, thresholds: Sequence[float]) -> tuple[str, list[str]]:
    """Return a score and thresholds with digits enough to see that it is none of them.

    >>> _told_apart(0.55, [0.2, 0.8]), _told_apart(0.928, [0.934]), _told_apart(0.995, [0.997])
    (('55%', ['20%', '80%']), ('92.8%', ['93.4%']), ('99.5%', ['99.7%']))
    """
    own, others = percent(score), [percent(each) for each in thresholds]
    for decimals in range(1, _MOST_DECIMALS + 1):
        if own not in others:
            break
        own, *others = (f"{each:.{decimals}%}" for each in (score, *thresholds))
    return own, others
