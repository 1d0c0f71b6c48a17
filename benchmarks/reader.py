"""How fast clips reach a net: each way to read crops, its memory and disk, and what a step takes.

Type: python benchmarks/reader.py [--backbones x3d_xs x3d_m] [--rounds 5] [--chunk sample]

All ways read the same clips of the chunk's training tracks in turns, round by round, so that other
work on the machine slows each of them alike; the best round counts. Rates are clips per second of
one core, with all that the data set does: augmentation, size and normalisation. Ways:

decode   what training does by default: the crop file is decoded up to the clip's last frame
cache    UNMASK_FRAME_CACHE: decoded frames, mapped into memory
intra    the crops encoded again with keyframes alone, and each of a clip's frames sought
codec    torchcodec, where it is installed: it seeks by itself; approximate seeking

The first two give the same pixels. intra is another encoding, so other pixels; codec's differ where
its conversion to RGB does. The last table has the processes that feed a GPU, and the share of a
training step on this CPU that reading takes.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import psutil
import torch

from unmask import params
from unmask.models import backbones, frame_cache
from unmask.models.clip_times import Image, frame_indices
from unmask.models.clips import ClipDataset, ClipItem, clip_items, read_cached
from unmask.runtime.record_files import read_chunks
from unmask.video.decode import read_frames

RATES = (500, 1000)  # clips/s that a GPU may want
STEPS = 2  # of training that are timed
Read = Callable[[ClipItem, Sequence[int]], Image]


class Dataset(ClipDataset):
    """The training's data set with another way to get the frames."""

    read: Read

    def _read(self, item: ClipItem, start_s: float) -> Image:
        return self.read(item, frame_indices(item.times_T, start_s, self.geometry))


def encode_intra(crop: Path, target: Path, crf: int) -> None:
    """Write a crop again, each frame by itself."""
    with av.open(str(target), "w") as container:
        stream: av.VideoStream | None = None
        for frame in read_frames(crop):
            picture = av.VideoFrame.from_ndarray(frame.rgb_HWC(), "rgb24")
            if stream is None:
                options = {"crf": str(crf), "g": "1", "preset": "veryfast", "mbtree": "0"}
                stream = container.add_stream("libx264", rate=10, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            container.mux(stream.encode(picture))
        assert stream is not None
        container.mux(stream.encode(None))


def read_intra(path: Path, indices: Sequence[int]) -> Image:
    """Return frames of a file of keyframes at 10 frames/s, each sought."""
    found: dict[int, Image] = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        for index in sorted(set(indices)):
            stamp = round(index / 10 / stream.time_base)
            container.seek(stamp, stream=stream, backward=True)
            found[index] = next(container.decode(stream)).to_ndarray(format="rgb24")
    return np.stack([found[index] for index in indices])


def _own_way(item: ClipItem, indices: Sequence[int]) -> Image:
    raise AssertionError(f"the data set reads {indices} of {item.crop} itself")


def ways(
    items: Sequence[ClipItem], folder: Path, settings: params.Params
) -> Iterator[tuple[str, Read, int]]:
    """Yield each way's name, what reads by it, and the bytes that it keeps on the disk."""
    crops = [item.crop for item in items]
    in_all = sum(crop.stat().st_size for crop in crops)

    yield "decode", _own_way, in_all
    cache = folder / "cache"
    cache.mkdir()
    tracks = [frame_cache.Track(item.crop, len(item.times_T)) for item in items]
    filling = frame_cache.plan(
        tracks, cache, most_bytes=10**12, side_px=settings.faces.side_px, workers=1
    )
    waited_s = time.monotonic()
    for _ in filling.write(workers=1):
        pass
    waited_s = time.monotonic() - waited_s
    frames = sum(track.frames for track in tracks)
    print(f"filling the cache: {frames / waited_s:.0f} frames/s by one worker process\n")

    def from_cache(item: ClipItem, indices: Sequence[int]) -> Image:
        return read_cached(filling.paths[item.crop], indices)

    yield "cache", from_cache, sum(path.stat().st_size for path in cache.glob("*.npy"))
    intra = folder / "intra"
    intra.mkdir()
    for crop in crops:
        encode_intra(crop, intra / crop.name, settings.faces.crf)
    yield (
        "intra", lambda item, indices: read_intra(intra / item.crop.name, indices),
        sum(path.stat().st_size for path in intra.iterdir()),
    )  # fmt: skip
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError:
        print("torchcodec is not installed: pip install torchcodec")
        return

    def by_codec(item: ClipItem, indices: Sequence[int]) -> Image:
        decoder = VideoDecoder(
            item.crop, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate"
        )
        return decoder.get_frames_at(list(indices)).data.numpy()

    yield "codec", by_codec, in_all


def step_seconds(backbone: str, settings: params.Params, batch: torch.Tensor, top: int) -> float:
    """Return the core seconds of a training step; the top layers learn, and the head."""
    net = backbones.build(backbone, dropout=settings.model.dropout)
    backbones.lay_out_for_cpu(net)
    for layer in backbones.layers(net)[: -top or None]:
        for part in layer:
            part.requires_grad_(requires_grad=False)
    learning = [weights for weights in net.parameters() if weights.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=settings.train.lr_head)
    labels, best = (torch.arange(len(batch)) % 2).float(), math.inf
    for _ in range(STEPS):
        began_s = time.process_time()
        logits = backbones.clip_logits(net, batch)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimiser.step()
        optimiser.zero_grad()
        best = min(best, time.process_time() - began_s)
    return best


def own_megabytes() -> float:
    """Return this process's memory that it shares with no other; a mapped file is not of it."""
    return float(psutil.Process().memory_full_info().uss / 1e6)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["x3d_xs", "x3d_m"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=60, help="a round")
    parser.add_argument("--chunk", default="sample")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = params.load()
    chunks = read_chunks([args.chunk], Path("raw"), Path("faces"))
    items = clip_items(chunks, "train")[: args.clips]
    seconds = sum(item.times_T[-1] - item.times_T[0] + 0.1 for item in items)
    with tempfile.TemporaryDirectory() as folder:
        readers = list(ways(items, Path(folder), settings))
        for name, _, size in readers:
            print(f"{name:8}{size / seconds / 1e3:10,.0f} KB on the disk a second of a face")
        for backbone in args.backbones:
            compare(backbone, items, readers, settings, args.rounds)


def compare(
    backbone: str,
    items: Sequence[ClipItem],
    readers: Sequence[tuple[str, Read, int]],
    settings: params.Params,
    rounds: int,
) -> None:
    """Print what each way costs a backbone's training."""
    geometry = settings.clips.geometry(backbone)
    sets = {}
    for name, read, _ in readers:
        kind = ClipDataset if name == "decode" else Dataset
        sets[name] = kind(items, geometry, augment=settings.augment, seed=1)
        sets[name].read = read
    best, grown = dict.fromkeys(sets, math.inf), dict.fromkeys(sets, 0.0)
    for epoch in range(rounds):
        clips = {}
        for name, dataset in sets.items():
            before, began_s = own_megabytes(), time.process_time()
            for place in range(len(items)):
                clips[name] = dataset[epoch, place][0]
            best[name] = min(best[name], (time.process_time() - began_s) / len(items))
            grown[name] = max(grown[name], own_megabytes() - before)
        assert torch.equal(clips["decode"], clips["cache"])
    size = settings.train.batch_size
    batch = torch.stack([sets["decode"][0, place][0] for place in range(size)])
    steps = {top: step_seconds(backbone, settings, batch, top) for top in (0, 2, 5)}
    print(f"\n{backbone}, {geometry.frames} frames of {geometry.side_px} px, batches of {size}")
    heads = "".join(f"{f'for {rate}/s':>12}" for rate in RATES)
    learn = "".join(f"{f'{top} learn':>10}" for top in steps)
    print(f"{'':8}{'clips/s':>10}{heads}{'MB':>8}   share of a step's time:{learn}")
    for name, each_s in best.items():
        count = "".join(f"{math.ceil(rate * each_s):>12}" for rate in RATES)
        shares = "".join(
            f"{size * each_s / (size * each_s + step_s):>10.1%}" for step_s in steps.values()
        )
        print(f"{name:8}{1 / each_s:>10.0f}{count}{grown[name]:>8.0f}{'':26}{shares}")
    said = ", ".join(f"{top} layers {step_s:.2f} s" for top, step_s in steps.items())
    print(f"a step of this CPU where the top layers learn: {said}")


if __name__ == "__main__":
    main()
