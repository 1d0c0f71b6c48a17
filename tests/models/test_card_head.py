"""Heads of cards, ours and strangers'."""

import pytest
import yaml

from unmask.models.card_head import hub_name, read_head, split_head, with_head


def test_a_head_comes_back_as_it_went():
    values = {"license": "apache-2.0", "tags": ["a", "no"], "model-index": [{"value": 0.5}]}
    card = with_head(values, "# x\n\ntext\n")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert read_head(card) == values
    assert split_head(card)[1] == "# x\n\ntext\n"


@pytest.mark.parametrize(
    ("card", "head", "body"),
    [
        ("---\na: 1\n---\n# x\n", "a: 1\n", "# x\n"),
        ("\ufeff---\r\na: 1\r\n---\r\n\r\n# x\r\n", "a: 1\n", "# x\n"),
        ("---\na: 1\n---", "a: 1\n", ""),
        ("---\n---\n# x", "", "# x"),
        ("# x\n\n---\na: 1\n---\n", "", "# x\n\n---\na: 1\n---\n"),  # a line, not a head
        ("---\na: 1\n# no end\n", "", "---\na: 1\n# no end\n"),
        ("--- \na: 1\n---\n", "", "--- \na: 1\n---\n"),
        ("", "", ""),
        ("---", "", "---"),
    ],
)
def test_a_head_ends_where_its_mark_stands(card, head, body):
    assert split_head(card) == (head, body)


def test_a_head_that_is_too_long_is_none():
    card = "---\n" + "a" * 2**17 + "\n---\n# x\n"
    assert split_head(card) == ("", card)


@pytest.mark.parametrize("head", ["a: [", "- 1", "word", "a: !!python/object:os.system {}"])
def test_a_head_that_is_no_list_of_values_is_refused(head):
    with pytest.raises(ValueError, match=r"no YAML|in the place of"):
        read_head(f"---\n{head}\n---\n")


def test_no_head_has_no_values():
    assert read_head("# x\n") == {}
    assert read_head("---\n---\n# x\n") == {}


@pytest.mark.parametrize("name", ["sample", "07", "a b", "\u00e4/\u00f6", "../x", "no", "null"])
def test_a_name_for_the_hub_stays_a_name_in_yaml(name):
    found = hub_name(name)
    assert yaml.safe_load(yaml.safe_dump([found])) == [found]
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
