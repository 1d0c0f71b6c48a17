"""What a forged part costs a video's genuine answer: python benchmarks/splices.py [MODEL].

For each pair of the sample's test videos, a genuine one and a fake of the same person: the genuine
one is played forth and back to a length, and a part of it, at a place drawn at random, is replaced
by the fake. Clips are scored once, every 0.1 s of each crop file; a long video's clips take these
scores. A clip that the splice cuts takes the mean of both, weighed by its pictures. Videos without
a forged part are the control. Compared are the answers of the mean of eight clips, spread over the
track, and of the mean joined with the most suspicious stretch, as `unmask predict` gives them; both
by the model's own thresholds. At last four spliced files go all the way through `unmask predict`.

Prints one table: shares of the videos that are called fake, neither and real. It takes six
minutes of one core in all, files included. Run it in a checkout after `make repro`.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.answers.analysis import analyse
from unmask.models.clip_times import read_clips, spread_starts, to_input
from unmask.models.predict import Predictor, probability
from unmask.records import FaceTrack, VideoRecord
from unmask.runtime.record_files import read_chunks
from unmask.scoring.stretches import clips_in, worst
from unmask.scoring.verdicts import FaceQuality, Part, Verdict, judge
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

LENGTHS_S = (6, 12, 30, 120, 600)
FORGED_S = (0.0, 2.0, 3.0, 6.0)
STEP_S = 0.1
DRAWS = 5  # places of the forged part in each video
BEFORE = 8  # clips of a face, before they lay side by side
FILES = 4
SEED = 1


@dataclass(frozen=True)
class Scored:
    """A test video's clips, one every STEP_S."""

    record: VideoRecord
    path: Path
    logits: np.ndarray

    def at(self, time_s: float) -> float:
        """Return the logit of the clip at a time of the video played forth and back."""
        last = len(self.logits) - 1
        place = round(time_s / STEP_S) % max(2 * last, 1)
        return float(self.logits[min(place, 2 * last - place)])


def score(predictor: Predictor) -> list[Scored]:
    """Return every test video of the sample with one face, its clips scored."""
    geometry = predictor.checkpoint.geometry
    [chunk] = read_chunks(["sample"], Path("raw"), Path("faces"))
    found = []
    for record, faces in chunk.of("test"):
        for track in faces.tracks[:1]:
            spare_s = max(track.times_T[-1] - track.times_T[0] - geometry.span_s, 0.0)
            starts_s = [track.times_T[0] + STEP_S * n for n in range(int(spare_s / STEP_S) + 1)]
            clips = read_clips(chunk.faces_dir / track.file, track.times_T, starts_s, geometry)
            logits = predictor.score_clips(
                to_input(clip, geometry.side_px, geometry.brightness) for clip in clips
            )
            path = Path("raw/sample/videos") / record.file
            found.append(Scored(record, path, np.array(list(logits))))
    return found


def pairs(videos: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """Return each fake with a genuine video of the same person."""
    reals = {video.record.source_id: video for video in videos if video.record.label == 0}
    fakes = [video for video in videos if video.record.label == 1]
    return [(reals[f.record.source_id], f) for f in fakes if f.record.source_id in reals]


def splice(
    genuine: Scored,
    fake: Scored,
    length_s: float,
    forged: tuple[float, float],
    most: int,
    predictor: Predictor,
) -> list[float]:
    """Return the logits of a long video's clips; forged says from when to when it is the fake."""
    geometry = predictor.checkpoint.geometry
    ticks = tuple(n / 10 for n in range(round(length_s * 10) + 1))
    track = FaceTrack(0, "", ticks, (), ())
    logits = []
    for start_s in spread_starts(track, geometry, most=most):
        shown_s = start_s + geometry.interval_s * np.arange(geometry.frames)
        share = float(np.mean((shown_s >= forged[0]) & (shown_s < forged[1])))
        logit = (1 - share) * genuine.at(start_s) if share < 1 else 0.0
        if share:
            logit += share * fake.at(max(start_s - forged[0], 0.0))
        logits.append(logit)
    return logits


def verdicts(logits: Sequence[float], predictor: Predictor, *, joined: bool) -> Verdict:
    """Return what a face with these clips is called, by its mean or also by its stretches."""
    checkpoint = predictor.checkpoint
    limits = checkpoint.limits
    chance = probability(float(np.mean(logits)), checkpoint.temperature)
    part = Part(0.0, 0.0, chance, 1, 0.0)
    if joined:
        width = clips_in(checkpoint.clips.stretch_s, checkpoint.geometry)
        stretch = worst(list(logits), width)
        part = Part(
            0.0, 0.0, probability(stretch.logit, checkpoint.temperature), stretch.count,
            probability(max(logits), checkpoint.temperature),
        )  # fmt: skip
    known = FaceQuality(
        limits.min_face_px, 600.0, limits.min_sharpness, limits.min_brightness
    )  # a face that nothing else speaks against
    return judge(chance, part, known, limits)[0]


def rows(predictor: Predictor, found: list[tuple[Scored, Scored]]) -> Iterator[tuple[str, ...]]:
    """Yield length, forged part, and shares called fake, neither, real: before, and joined."""
    rng = np.random.default_rng(SEED)
    most = predictor.checkpoint.clips.max_per_track
    for forged_s in FORGED_S:
        for length_s in LENGTHS_S:
            if forged_s >= length_s:
                continue
            counts: list[Counter[Verdict]] = [Counter(), Counter()]
            for genuine, fake in found:
                for _ in range(DRAWS):
                    begin_s = float(rng.uniform(0, length_s - forged_s))
                    forged = begin_s, begin_s + forged_s
                    for count, limit, joined in zip(
                        counts, (BEFORE, most), (False, True), strict=True
                    ):
                        logits = splice(genuine, fake, length_s, forged, limit, predictor)
                        count[verdicts(logits, predictor, joined=joined)] += 1
            shares = [
                f"{count[verdict] / count.total():.2f}"
                for count in counts
                for verdict in (Verdict.FAKE, Verdict.INCONCLUSIVE, Verdict.REAL)
            ]
            part = f"{forged_s:g} s ({forged_s / length_s:.1%})" if forged_s else "none"
            yield (f"{length_s} s", part, *shares)


def files(predictor: Predictor, found: list[tuple[Scored, Scored]]) -> Iterator[tuple[str, ...]]:
    """Yield the answers to a few spliced files: four times the genuine video, then the fake."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for genuine, fake in found[:: len(found) // FILES][:FILES]:
            forth = [frame.rgb_HWC() for frame in read_frames(genuine.path, rate_fps=25.0)]
            forged = [frame.rgb_HWC() for frame in read_frames(fake.path, rate_fps=25.0)]
            pictures = [*forth, *forth[::-1], *forth, *forth[::-1], *forged]
            paths.append(Path(folder) / f"{fake.record.video_id}.mp4")
            write_video(paths[-1], pictures, rate_fps=25.0, crf=18)
        for answer in analyse(predictor, paths):
            for face in answer.faces:
                part = face.part
                yield (
                    answer.path.stem, str(answer.verdict), f"{face.probability:.3f}",
                    f"{part.start_s:.1f} to {part.end_s:.1f} s: {part.probability:.3f}",
                    f"{face.track.times_T[-1]:.1f} s",
                )  # fmt: skip


def main() -> None:
    """Measure and print."""
    predictor = Predictor.load(Path(sys.argv[1] if len(sys.argv) > 1 else "model"), device="cpu")
    found = pairs(score(predictor))
    heads = ("fake", "neither", "real")
    header = (
        "video",
        "forged",
        *(f"{way}: {head}" for way in ("mean", "joined") for head in heads),
    )
    sys.stdout.write(f"{len(found)} pairs, {DRAWS} places each\n")
    lines = [header, tuple("---" for _ in header), *rows(predictor, found)]
    sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)
    sys.stdout.flush()
    for line in files(predictor, found):
        sys.stdout.write("  ".join(line) + "\n")


if __name__ == "__main__":
    main()
