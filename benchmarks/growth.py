"""What grows faster than the work: seconds of each step beside the number of videos.

Type: python benchmarks/growth.py [STEP ...] [--videos 1000 10000 100000] [--old-up-to 20000]
                                  [--dvc-up-to 10000] [--crop-bytes 20000]

A step is a function below; without one all run. The videos are made up: one real video and four
fakes a person, ten hashes each, faces of 100 frames. twins also runs as it did before there was an
index of hashes, which compares all with all, up to --old-up-to videos. dvc keeps that many files of
a crop's size in a folder of its own; dvc_s3 does with a remote on a server of moto's. Each row has
the seconds of a core, what they are a video, the seconds of the clock, and by how much memory a
video this process has grown; where the second column grows, so does the work of each video.
"""

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import boto3
import numpy as np
import psutil

from unmask import params
from unmask.data import datasets, leakage, near_hashes, same_pictures, splits
from unmask.data.archive import open_chunk
from unmask.data.copies import Listing, check_copies, find_copies
from unmask.data.layouts.entry import Entry
from unmask.evaluation import evaluate
from unmask.models import resume
from unmask.models.clips import clip_items
from unmask.records import (
    SPLITS,
    FaceTrack,
    Fingerprint,
    TrackScore,
    VideoFaces,
    VideoRecord,
    VideoScore,
)
from unmask.runtime import record_files

FAKES, HASHES, FRAMES, CLIPS = 4, 10, 100, 8
RATIO = 0.08
Step = Callable[[int, Path], None]


class Stopwatch:
    """Prints a row for each thing that is timed."""

    def __init__(self, videos: int) -> None:
        self.videos = videos

    def time(self, what: str, work: Callable[[], object]) -> object:
        """Return what work returns, after printing its seconds and what memory that takes."""
        gc.collect()
        before = psutil.Process().memory_info().rss
        started, began_s = os.times(), time.monotonic()
        done = work()
        ended, waited_s = os.times(), time.monotonic() - began_s
        # User and system time, of this process and its children: other work on the machine is out.
        seconds = sum(ended[:4]) - sum(started[:4])
        gc.collect()
        kept = (psutil.Process().memory_info().rss - before) / self.videos / 1000
        each = seconds / self.videos * 1e6
        print(
            f"{what:42}{self.videos:>9,}{seconds:>10.2f} s{each:>10.0f} us{waited_s:>9.1f} s"
            f"{kept:>8.1f} KB"
        )
        sys.stdout.flush()
        return done


def make_entries(videos: int) -> list[Entry]:
    """Return as many entries as DFDC has of one, in its layout: no donors, train throughout."""
    entries = []
    for person in range(videos // (1 + FAKES)):
        name = f"p{person:06}"
        entries.append(Entry(f"{name}.mp4", 0, name, "real", "train"))
        entries += [
            Entry(f"{name}_{fake}.mp4", 1, name, "unknown", "train") for fake in range(FAKES)
        ]
    return entries


def make_listing(videos: int) -> Listing:
    """Return a chunk whose sides are drawn; a fake's hashes are close to its real video's."""
    rng, seed = np.random.default_rng(0), random.Random(0)
    records, prints = [], {}
    for person in range(videos // (1 + FAKES)):
        split = SPLITS[seed.choices(range(3), (70, 15, 15))[0]]
        shown = rng.integers(0, 2, (HASHES, 256), np.uint8)
        for number in range(1 + FAKES):
            video_id = f"p{person:06}_{number}"
            label = int(number > 0)
            records.append(
                VideoRecord(
                    video_id, f"{video_id}.mp4", label, f"p{person:06}", ["real", "swap"][label],
                    split,
                )
            )  # fmt: skip
            flipped = shown ^ (rng.random((HASHES, 256)) < 0.02 * label)
            pictures = tuple(row.tobytes().hex() for row in np.packbits(flipped, axis=1))
            digest = seed.randbytes(32).hex()
            prints[video_id] = Fingerprint(video_id, digest, "", pictures, digest[::-1])
    return Listing("chunk", records, prints)


def make_faces(listing: Listing) -> Iterator[VideoFaces]:
    """Yield each video with a track; its numbers have as many digits as the cropper's."""
    rng = random.Random(0)
    times = tuple(round(n / 10, 4) for n in range(FRAMES))
    for record in listing.records:
        left, top = rng.uniform(0, 900), rng.uniform(0, 400)
        boxes, points = [], []
        for _ in times:  # a face moves and trembles
            left, top = left + rng.gauss(0, 2), top + rng.gauss(0, 2)
            corners = left, top, left + 300, top + 300
            boxes.append(tuple(round(side + rng.gauss(0, 1), 1) for side in corners))
            places = [(left + 80 + 30 * n, top + 90 + n) for n in range(5)]
            points.append(
                tuple(
                    (round(x + rng.gauss(0, 1), 1), round(y + rng.gauss(0, 1), 1))
                    for x, y in places
                )
            )
        scores = tuple(round(1 - rng.random() / 100, 4) for _ in times)
        track = FaceTrack(0, f"{record.video_id}_0.mp4", times, tuple(boxes), scores, tuple(points))
        yield VideoFaces(record.video_id, "0" * 64, (track,), None, "")


# ---------------------------------------------------------------- steps


def twins(videos: int, folder: Path, old_up_to: int) -> None:
    """The leakage check: what was compared with what."""
    del folder
    listing, watch = make_listing(videos), Stopwatch(videos)
    new = watch.time("twins, by an index", lambda: list(leakage.find_twins([listing], RATIO)))
    limit = int(RATIO * near_hashes.PICTURE_BITS)
    pairs = watch.time(
        "fakes and real videos alike, by an index",
        lambda: list(same_pictures._pair_up([listing], limit, across=False)),
    )
    if videos <= old_up_to:
        choose = near_hashes._choose_parts
        near_hashes._choose_parts = lambda *_: None
        try:
            old = watch.time(
                "twins, all with all", lambda: list(leakage.find_twins([listing], RATIO))
            )
            assert old == new
            old_pairs = watch.time(
                "fakes and real videos, all with all",
                lambda: list(same_pictures._pair_up([listing], limit, across=False)),
            )
            assert old_pairs == pairs
        finally:
            near_hashes._choose_parts = choose


def raw(videos: int, folder: Path) -> None:
    """The raw stage without its files: layout, splits, draw, checks, index and fingerprints."""
    watch, settings = Stopwatch(videos), params.load().raw
    rows = {
        entry.file: {"label": ["REAL", "FAKE"][entry.label], "split": "train"}
        | ({"original": f"{entry.source_id}.mp4"} if entry.label else {})
        for entry in make_entries(videos)
    }
    chunk = folder / "chunk"
    chunk.mkdir()
    (chunk / "metadata.json").write_text(json.dumps(rows))
    for name in rows:
        (chunk / name).touch()
    with open_chunk(chunk) as files:
        entries = watch.time("raw: read metadata.json", lambda: datasets.read(files))
    sides = watch.time("raw: splits", lambda: splits.assign(entries, settings))
    drawn = watch.time("raw: draw", lambda: splits.draw(entries, sides, settings))
    watch.time("raw: check before files", lambda: leakage.check([Listing("c", drawn)], settings))
    swapped = [
        Entry(f"{a}_{b}.mp4", 1, f"p{a}", "swap", "", donors=(f"p{b}",))
        for a in range(videos // 5) for b in {(a * 7 + k * k) % (videos // 5) for k in range(1, 5)}
    ] + [Entry(f"p{a}.mp4", 0, f"p{a}", "real", "") for a in range(videos // 5)]  # fmt: skip
    watch.time("raw: splits where all are joined", lambda: splits.assign(swapped, settings))
    listing = make_listing(videos)
    watch.time("raw: find copies", lambda: find_copies([listing]))
    watch.time(
        "raw: bring twins together",
        lambda: splits.gather_twins(
            listing, splits.Sides({}, {}, own=False), settings.alike_ratio
        ),
    )  # fmt: skip


def ledgers(videos: int, folder: Path) -> None:
    """What stages hand to each other, written and read; what training makes of it."""
    watch, settings = Stopwatch(videos), params.load().raw
    listing = make_listing(videos)
    prints = listing.fingerprints
    assert prints is not None
    raw_dir, faces_dir = folder / "raw/chunk", folder / "faces/chunk"
    watch.time(
        "index.csv written",
        lambda: record_files.write_index(raw_dir / "index.csv", listing.records),
    )
    watch.time(
        "fingerprints.csv written",
        lambda: record_files.write_fingerprints(raw_dir / "fingerprints.csv", prints.values()),
    )
    listing = watch.time("train: read both", lambda: leakage.read_listing("chunk", raw_dir))
    checked = watch.time("train: copies", lambda: check_copies([listing], settings))
    watch.time("train: check for leaks", lambda: leakage.check(checked, settings))
    faces_dir.mkdir(parents=True)
    with (faces_dir / "index.jsonl").open("w") as lines:
        lines.writelines(record_files.faces_line(each) + "\n" for each in make_faces(listing))
    found = watch.time(
        "train: read faces/index.jsonl",
        lambda: record_files.read_chunks(["chunk"], raw_dir.parent, faces_dir.parent),
    )
    own = watch.time("train: its key", lambda: resume.training_key({}, found, None, "pytorchvideo"))
    own = watch.time("train: which clips", lambda: [clip_items(found, split) for split in SPLITS])
    del own
    watch.time(
        "the same with train.self_blend",
        lambda: [clip_items(found, split, self_blend=0.5) for split in SPLITS],
    )


def metrics(videos: int, folder: Path) -> None:
    """What evaluate makes of so many scored videos: intervals of 1,000 resamples, scores.csv."""
    del folder
    watch, settings = Stopwatch(videos), params.load().evaluate
    rng = random.Random(0)
    scored = []
    for record in make_listing(videos).records:
        logits = tuple(rng.gauss(record.label, 1.5) for _ in range(CLIPS))
        track = TrackScore(0, float(np.mean(logits)), logits, tuple(map(float, range(CLIPS))))
        probability = 1 / (1 + np.exp(-track.logit))
        score = VideoScore(record.video_id, float(probability), None, (track,))
        scored.append(evaluate.ScoredVideo("chunk", record, score))
    watch.time("evaluate: a split's metrics", lambda: evaluate.summarise(scored, settings, 1.0))
    watch.time("evaluate: scores.csv", lambda: evaluate.scores_csv(scored, 1.0))


def dvc(videos: int, folder: Path, crop_bytes: int) -> None:
    """What DVC does with a folder of small files and a remote that is a folder."""
    _dvc_round(videos, folder, crop_bytes, "folder", str(folder / "remote"))


def dvc_s3(videos: int, folder: Path, crop_bytes: int) -> None:
    """The same with a remote on S3: moto's server, a process beside it, so without a network."""
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        address = next(words for line in lines for words in line.split() if "http://" in words)
        # What it says of each request would fill the pipe.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
        keys["AWS_DEFAULT_REGION"] = "us-east-1"
        os.environ.update(keys)  # boto3's and, by its environment, DVC's
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="crops")
        _dvc_round(videos, folder, crop_bytes, "S3", "s3://crops/dvc", endpoint=address)
    finally:
        server.terminate()
        server.wait()


def _dvc_round(
    videos: int, folder: Path, crop_bytes: int, kind: str, remote: str,
    *, endpoint: str | None = None,
) -> None:  # fmt: skip
    """Time DVC's commands on so many files: all are new, then one in a hundred has changed."""
    watch, root = Stopwatch(videos), folder / "project"
    crops = root / "faces/chunk"
    crops.mkdir(parents=True)
    rng = random.Random(0)
    for number in range(videos):
        (crops / f"{number:06}_0.mp4").write_bytes(rng.randbytes(crop_bytes))

    def type_in(*words: str) -> None:
        # Its index of files, which would lie in /var/tmp, goes with the folder.
        own = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(
            command, cwd=root, env=dict(os.environ, **own), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")

    type_in("init", "--no-scm")
    type_in("config", "cache.type", "hardlink,copy")
    type_in("remote", "add", "-d", "shared", remote)
    if endpoint:
        type_in("remote", "modify", "shared", "endpointurl", endpoint)
    watch.time("dvc add", lambda: type_in("add", "faces/chunk"))
    watch.time("dvc status", lambda: type_in("status"))
    watch.time(f"dvc push, {kind}", lambda: type_in("push"))
    for number in range(0, videos, 100):
        path = crops / f"{number:06}_0.mp4"
        path.unlink()  # a hard link into the cache, which must not change with it
        path.write_bytes(rng.randbytes(crop_bytes))
    watch.time("dvc add, one file in 100 changed", lambda: type_in("add", "faces/chunk"))
    watch.time(f"dvc push of these, {kind}", lambda: type_in("push"))
    watch.time(f"dvc push, nothing new, {kind}", lambda: type_in("push"))
    subprocess.run(["rm", "-rf", root / ".dvc/cache", folder / "site", crops], check=True)
    watch.time(f"dvc pull, {kind}", lambda: type_in("pull"))
    watch.time(f"dvc pull, nothing missing, {kind}", lambda: type_in("pull"))
    assert sum(1 for _ in crops.iterdir()) == videos


STEPS: dict[str, Step] = {
    "twins": twins,
    "raw": raw,
    "ledgers": ledgers,
    "metrics": metrics,
    "dvc": dvc,
    "dvc_s3": dvc_s3,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps that were asked for, at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", default=[], metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--old-up-to", type=int, default=20_000)
    parser.add_argument("--dvc-up-to", type=int, default=10_000)
    parser.add_argument("--crop-bytes", type=int, default=20_000, help="of dvc's files")
    args = parser.parse_args(arguments)
    if strange := set(args.steps) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(strange))}; known are {', '.join(STEPS)}")
    print(f"{'':42}{'videos':>9}{'core':>12}{'a video':>13}{'clock':>11}{'a video':>11}")
    for name in args.steps or STEPS:
        for videos in args.videos:
            if name.startswith("dvc") and videos > args.dvc_up_to:
                continue
            more = {"old_up_to": args.old_up_to} if name == "twins" else {}
            if name.startswith("dvc"):
                more = {"crop_bytes": args.crop_bytes}
            with tempfile.TemporaryDirectory() as scratch:
                STEPS[name](videos, Path(scratch), **more)


if __name__ == "__main__":
    main()
