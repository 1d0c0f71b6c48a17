"""What timm says of its nets, and what is said of those it does not have."""

import re

import pytest
import timm
from timm.models import get_pretrained_cfg

from unmask.errors import ParamsError
from unmask.timm_facts import PATTERN, PREFIX, Colours, is_timm, timm_facts


def test_the_pattern_takes_every_name_that_timm_has() -> None:
    names = [*timm.list_models(), *timm.list_pretrained()]
    assert len(names) > 2000
    assert not [name for name in names if not re.fullmatch(PATTERN, PREFIX + name)]
    assert all(is_timm(PREFIX + name) for name in names[:3])
    assert not is_timm("x3d_xs")


def test_facts_are_those_of_the_weights_that_the_tag_names() -> None:
    # Steiner et al., "How to train your ViT?": pictures from -1 to 1.
    plain = timm_facts("timm/vit_small_patch16_384")
    assert (plain.side_px, plain.fixed_side, plain.head) == (384, True, "head")
    assert plain.colours == Colours((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    # OpenAI's CLIP has colours of its own: github.com/openai/CLIP, clip.py, _transform.
    clip = timm_facts("timm/vit_large_patch14_clip_224.openai")
    assert clip.colours.mean == (0.48145466, 0.4578275, 0.40821073)
    assert clip.colours.deviation == (0.26862954, 0.26130258, 0.27577711)
    assert not timm_facts("timm/tf_efficientnet_lite2").fixed_side
    assert timm_facts("timm/tf_efficientnet_lite2").head == "classifier"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_smal_patch16_384", "Did you mean .*timm/vit_small_patch16_384"),
        (
            "vit_large_patch14_clip_224.openia",
            "Did you mean .*timm/vit_large_patch14_clip_224.open",
        ),
        ("qqqq_0", r"timm\.list_models\(\) lists"),
        ("crossvit_9_240", r"found|head \('head.0', 'head.1'\). Choose another"),
        ("vit_base_patch16_sapiens2", r"input \(3, 1024, 768\)"),
    ],
)
def test_a_net_that_timm_has_not_or_that_does_not_fit_is_refused(name: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        timm_facts(PREFIX + name)


def test_a_checkpoints_colours_are_needed_as_timms_can_change() -> None:
    """The same architecture has other colours by another of its tags."""
    tags = timm.list_pretrained("vit_base_patch16_224.*")
    assert len({get_pretrained_cfg(name).mean for name in tags}) > 1
