"""What names a repository of the Hub, and what does not."""

import pytest

from unmask.errors import WeightsError
from unmask.hub.address import Address, is_commit, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hf:ada/detector", "ada/detector", None),
        ("hf:Ada-1/de_tector.v2", "Ada-1/de_tector.v2", None),
        (f"hf:ada/detector@{COMMIT}", "ada/detector", COMMIT),
        ("hf:ada/detector@refs/pr/1", "ada/detector", "refs/pr/1"),
        ("hf:ada/detector@v1.2+cpu", "ada/detector", "v1.2+cpu"),
        (f"hf:{'a' * 40}/{'b' * 55}", f"{'a' * 40}/{'b' * 55}", None),
    ],
)
def test_a_repository_and_its_revision(text, repository, revision):
    address = parse(text)
    assert address == Address(repository, revision)
    assert str(address) == text
    assert address.commit == (COMMIT if revision == COMMIT else None)


@pytest.mark.parametrize(
    "text",
    [
        "hf:", "hf:ada", "hf:/detector", "hf:ada/", "hf:a/b/c", "hf:../../etc", "hf:ada/..",
        "hf:./b", "hf:-a/b", "hf:a/b-", "hf:a--b/c", "hf:a/b..c", "hf:a/b.git", "hf:a/b@",
        "hf:a/b@..", "hf:a/b@x/../y", "hf:a/b@/x", "hf:a/b@x/", "hf:a/b@x//y", "hf:a/b@-x",
        "hf:a/b@x y", "hf:a/b\n", "hf:a/b@x\n", "hf:ä/b", "hf:a/b?token=1", "hf:a\\b", "hf:a/b@x@y",
        "hf:https://huggingface.co/a/b", f"hf:{'a' * 40}/{'b' * 56}", "models:/a", "a/b",
        f"hf:a/b@{'x' * 201}", "hf:a/b@x.lock",
    ],
)  # fmt: skip
def test_what_names_none_is_said(text):
    with pytest.raises(WeightsError, match="is named hf:OWNER/NAME"):
        parse(text)


def test_a_token_amid_an_address_is_not_repeated():
    with pytest.raises(WeightsError) as told:
        parse("hf:hf_abcDEF123@ada/detector")
    assert "abcDEF123" not in str(told.value)


def test_no_two_repositories_share_a_folder():
    assert parse("hf:a/b-c").folder == "a--b-c"
    assert parse("hf:a-b/c").folder == "a-b--c"


@pytest.mark.parametrize("text", [COMMIT[:7], COMMIT.upper(), f"{COMMIT}0", f"{COMMIT}\n", "main"])
def test_a_part_of_a_commit_is_none(text):
    assert is_commit(COMMIT)
    assert not is_commit(text)
