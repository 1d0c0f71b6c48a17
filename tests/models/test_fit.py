"""What is trained on, what is refused, and that a fit alone gives the net of the best epoch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.test_train import Notes, blending, make_chunk, small_settings
from unmask.errors import DatasetError, UnmaskError
from unmask.models.clips import clip_items, count_classes
from unmask.models.fit import LAST, Fitted, fit, items_of, plan
from unmask.tracking.tracker import NullTracker


@pytest.fixture(scope="module")
def settings():
    return small_settings(epochs=2)


@pytest.fixture(scope="module")
def real_chunk(tmp_path_factory):
    """Return a chunk of real videos alone."""
    chunk = make_chunk(tmp_path_factory.mktemp("real") / "crops")
    return replace(chunk, records=[record for record in chunk.records if record.label == 0])


def run(chunk, settings, folder, tracker):
    planned = plan([chunk], settings, scratch=folder / "scratch", weights_cache=folder)
    return fit(
        [chunk], settings, tracker,
        plan=planned, scratch=folder / "scratch", workers=0, weights_cache=folder,
    )  # fmt: skip


# ---------------------------------------------------------------- what it is fitted on


def test_items_are_the_tracks_of_a_split(tmp_path):
    chunk = make_chunk(tmp_path / "crops")
    items = clip_items([chunk], "train")
    assert [(item.video_id, item.label) for item in items] == [
        (f"{kind}{number}", label)
        for number in range(3)
        for label, kind in enumerate(("real", "fake"))
    ]


def test_classes_are_counted_as_an_epoch_holds_them_on_average(tmp_path):
    chunk = make_chunk(tmp_path / "crops")
    assert count_classes(clip_items([chunk], "train")) == (3, 3)
    assert count_classes(clip_items([chunk], "train", self_blend=0.25)) == (2.25, 3.75)


def test_validation_gets_twins_only_where_it_has_no_fakes(tmp_path, settings, real_chunk):
    mixed = make_chunk(tmp_path / "crops")
    for share in (0.0, 0.5):
        _, validation = items_of([mixed], blending(settings, share).train)
        assert [(item.label, item.self_blend) for item in validation] == [(0, 0), (1, 0)] * 2
    training, validation = items_of([real_chunk], blending(settings, 0.5).train)
    assert [(item.label, item.self_blend) for item in training] == [(0, 0.5)] * 3
    assert [(item.video_id, item.label, item.self_blend) for item in validation] == [
        ("real3", 0, 0), ("real4", 0, 0), ("real3", 1, 1), ("real4", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("share", "found"), [(0.0, "3 real and 0"), (1.0, "0 real and 3")])
def test_real_videos_alone_need_a_share_of_fakes(settings, real_chunk, share, found):
    with pytest.raises(DatasetError, match=rf"in train; found {found} fake .* train\.self_blend"):
        items_of([real_chunk], blending(settings, share).train)


# ---------------------------------------------------------------- the fit


def test_a_fit_alone_gives_the_net_that_had_the_lowest_validation_loss(tmp_path, settings):
    notes, chunk = Notes(), make_chunk(tmp_path / "crops")
    fitted = run(chunk, settings, tmp_path, notes)
    assert isinstance(fitted, Fitted)
    assert [row["epoch"] for row in fitted.history] == [0, 1]
    assert [row["val_loss"] for row in fitted.history] == [
        row["val_loss"] for _, row in notes.metrics
    ]
    assert fitted.weights_sha256 is None  # from noise
    assert (notes.files, notes.models) == ([], [])  # no model is written
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == [LAST]
    assert [(item.video_id, item.label) for item in fitted.validation.items] == [
        ("real3", 0), ("fake3", 1), ("real4", 0), ("fake4", 1),
    ]  # fmt: skip
    with torch.no_grad():
        clips = torch.stack([fitted.validation[0, index][0] for index in range(4)])
        logits = fitted.net.eval()(clips)
    margins = (logits[:, 1] - logits[:, 0]).numpy() * [1, -1, 1, -1]
    best = min(row["val_loss"] for row in fitted.history)
    assert np.logaddexp(0, margins).mean() == pytest.approx(best, rel=1e-4)


def test_a_split_of_one_class_is_refused(tmp_path, settings):
    chunk = make_chunk(tmp_path / "crops", splits=("train", "test"))
    with pytest.raises(DatasetError, match="in validation; found 0 real and 0 fake"):
        run(chunk, settings, tmp_path, NullTracker())


def test_a_training_that_diverges_says_so(tmp_path, settings):
    chunk = make_chunk(tmp_path / "crops")
    wild = settings.train.model_copy(update={"lr_head": 1e30, "milestone": 9})
    with pytest.raises(UnmaskError, match=r"the training diverged\. Lower train\.lr_head"):
        run(chunk, replace(settings, train=wild), tmp_path, NullTracker())


def test_a_training_with_workers_goes_on_after_answers(tmp_path):
    """What answers is gone by then, in the order it came in: no signal may end the process."""
    code = """
import sys
from pathlib import Path
import numpy as np
import torch
from tests.models.test_train import make_chunk, small_settings
from unmask.engine.openvino_net import OpenVinoNet
from unmask.models.backbones import build
from unmask.models.fit import fit, plan
from unmask.models.portable import export
from unmask.tracking.tracker import NullTracker

folder, settings = Path(sys.argv[1]), small_settings(epochs=1)
geometry = settings.clips.geometry(settings.model.backbone)
content = export(build(settings.model.backbone, dropout=0.0), geometry)
clip = np.zeros((3, geometry.frames, geometry.side_px, geometry.side_px), np.float32)
nets = [OpenVinoNet(content, threads=2), OpenVinoNet(content, threads=2)]
for net in nets:
    list(net.run([clip] * 3))
del net
while nets:
    del nets[0]
chunk, scratch = make_chunk(folder / "crops"), folder / "scratch"
planned = plan([chunk], settings, scratch=scratch, weights_cache=folder)
fitted = fit([chunk], settings, NullTracker(), plan=planned, scratch=scratch, workers=2,
             weights_cache=folder)
print(len(fitted.history))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
