"""A benchmark's videos as somebody sees them who knows nothing of forgeries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unmask.evaluation import baselines
from unmask.evaluation.looks import FrozenNet
from unmask.records import Chunk


def learn(
    chunks: Sequence[Chunk], raw_dir: Path, net: FrozenNet, *, margin_ratio: float, workers: int
) -> baselines.Learned | None:
    """Return what the chunks' training videos teach without a detector.

    None where they are of one class. At most baselines.MOST_TRAINED videos are looked at.
    """
    trained = [
        replace(chunk, records=[r for r in chunk.records if r.split == "train"]) for chunk in chunks
    ]
    seen = baselines.look_at_chunks(
        trained, raw_dir, {}, net, margin_ratio=margin_ratio, workers=workers
    )
    return baselines.learn([video for _, video in seen])


def look_at_videos(
    chunk: Chunk,
    videos_dir: Path,
    logits: Mapping[str, float],
    net: FrozenNet,
    *,
    margin_ratio: float,
    workers: int,
) -> Iterator[tuple[str, baselines.Seen]]:
    """Yield each video of a benchmark that shows a face, with its id.

    logits are the model's, by id; margin_ratio is that of the crops.
    """
    videos = [(chunk, record) for record in chunk.records]
    paths = [videos_dir / record.file for record in chunk.records]
    scores = {(chunk.name, video_id): logit for video_id, logit in logits.items()}
    found = baselines.look_at_videos(
        videos, paths, scores, net, margin_ratio=margin_ratio, workers=workers
    )
    for record, seen in found:
        yield record.video_id, seen
