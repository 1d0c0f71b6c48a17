"""`unmask crop` with the tests' detector of painted squares, here and on nodes."""

from contextlib import nullcontext
from functools import partial

from shard_videos import load_moody

from unmask.cli.main import main
from unmask.cluster import ray_cluster
from unmask.faces import shared_detector

if __name__ == "__main__":
    shared_detector.best_detector = lambda *_, **__: nullcontext(load_moody)
    ray_cluster.opened = partial(ray_cluster.opened, load_detector=load_moody)
    main()
