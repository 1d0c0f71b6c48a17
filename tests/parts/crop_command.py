"""`unmask crop` with the tests' detector of painted squares, here and on nodes."""

from contextlib import nullcontext

from shard_videos import load_moody, no_fault, shared_on_gpu

from unmask.cli.main import main
from unmask.cluster import hardware
from unmask.cluster.hardware import Hardware
from unmask.faces import shared_detector

if __name__ == "__main__":
    shared_detector.best_detector = lambda *_, **__: nullcontext(load_moody)
    of_cores = hardware.of_cores
    hardware.of_cores = lambda: of_cores(load_moody)
    hardware.of_gpus = lambda: Hardware(1, shared_on_gpu, no_fault)
    main()
