"""The package's nets of MTCNN are facenet-pytorch's."""

import hashlib

import numpy as np
import pytest
import torch

from unmask.engine.openvino_net import BatchNet
from unmask.faces.cascade import NET_SHA256, NETS, net_path
from unmask.faces.mtcnn_source import export, nets


@pytest.mark.parametrize(
    ("name", "size"), [(NETS[0], (37, 91)), (NETS[1], (24, 24)), (NETS[2], (48, 48))]
)
def test_a_net_says_what_facenets_says_and_is_written_to_the_same_bytes(name, size) -> None:
    content = net_path(name).read_bytes()
    own = nets()[name]
    pictures = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = own(torch.from_numpy(pictures))
    for found, theirs in zip(BatchNet(content)(pictures), expected, strict=True):
        assert found.shape == theirs.shape
        assert np.abs(found - theirs.numpy()).max() < 1e-5
    assert export(name, own) == content


def test_the_source_names_the_nets_that_it_runs() -> None:
    found = {name: hashlib.sha256(net_path(name).read_bytes()).hexdigest() for name in NETS}
    assert found == NET_SHA256
