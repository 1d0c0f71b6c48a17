"""What content credentials of files that are written here say, read back by c2pa."""

import numpy as np
import pytest
from signed_files import Authority

from unmask.answers.ask_files import read_here
from unmask.answers.certificates import CertificateError, read_certificate
from unmask.answers.content_marks import ANNOTATED, FORGED, sign
from unmask.answers.file_says import Action, Ingredient, State
from unmask.video import still


@pytest.fixture
def certificate(tmp_path):
    authority = Authority()
    chain, key = authority.issue()
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    found = read_certificate(tmp_path / "chain.pem", tmp_path / "key.pem", None, "WORDS")
    return found, authority.pem.decode()


def programs(says):
    """Return who signed and who acted, without their versions."""
    return (
        [each.split()[0] for each in says.generators],
        [(each.action, each.source, each.agent.rpartition(" ")[0]) for each in says.actions],
    )


def test_a_video_names_us_the_edit_and_what_it_was_made_of(tmp_path, make_video, certificate):
    signer, trusted = certificate
    original = make_video(tmp_path / "clip.mp4", frames=3)
    part = make_video(tmp_path / "part.mp4", frames=4).rename(tmp_path / "part")  # of any name
    out = tmp_path / "seen.mp4"
    sign(part, out, original, ANNOTATED, signer)
    says = read_here(out, trusted).credentials
    assert says.state is State.TRUSTED
    assert says.signer == "Ann<b> Signer"
    assert programs(says) == (
        ["unmask"],
        [("c2pa.opened", "", ""), ("c2pa.drawing", "composite", "unmask predict --annotate")],
    )
    assert says.ingredients == [Ingredient(title="clip.mp4", relation="parentOf")]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_credentials_of_the_original_go_along(tmp_path, make_video, certificate):
    signer, trusted = certificate
    original = tmp_path / "clip.mp4"
    plain = make_video(tmp_path / "plain.mp4", frames=3)
    original.write_bytes(Authority().sign(plain.read_bytes(), "video/mp4"))
    sign(plain, tmp_path / "out.mp4", original, ANNOTATED, signer)
    content = (tmp_path / "out.mp4").read_bytes()
    assert b"Painter<i>" in content  # which the original's manifest names
    # The original's signer is not of the list, so c2pa does not call the whole trusted.
    assert read_here(tmp_path / "out.mp4", trusted).credentials.state is State.VALID


def test_a_picture_and_an_original_of_a_kind_without_credentials(tmp_path, certificate):
    signer, trusted = certificate
    original = tmp_path / "clip.mkv"
    original.write_bytes(b"\x1aE\xdf\xa3" + bytes(99))
    part = tmp_path / "part.png"
    still.write_png(part, np.zeros((9, 9, 3), np.uint8), {})
    sign(part, part, original, FORGED, signer)  # in its own place
    says = read_here(part, trusted).credentials
    assert says.state is State.TRUSTED
    assert (
        Action(action="c2pa.edited", source="compositeCapture", agent=says.actions[-1].agent)
        == (says.actions[-1])
    )
    assert says.ingredients == [Ingredient(title="clip.mkv", relation="parentOf")]


def test_what_can_not_be_signed_is_one_line_and_leaves_nothing(tmp_path, certificate):
    signer, _ = certificate
    part = tmp_path / "part"
    part.write_bytes(b"no video")
    with pytest.raises(CertificateError, match=r"out\.mp4: asked for content credentials, found"):
        sign(part, tmp_path / "out.mp4", part, ANNOTATED, signer)
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(CertificateError, match="No such file"):
        sign(part, tmp_path / "out.mp4", tmp_path / "gone.mp4", ANNOTATED, signer)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
