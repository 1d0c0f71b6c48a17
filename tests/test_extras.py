"""Which extra a missing library belongs to, by what pyproject.toml and what is installed say."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from unmask import extras
from unmask.extras import EXTRAS, MissingExtraError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    """Return the packages that are asked for, spelled as indexes do."""
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in requirements}


@pytest.fixture
def gone(monkeypatch):
    """Return a function after which a library can't be imported."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


def test_nothing_is_missing_here():
    assert extras.missing(EXTRAS) == {}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_first_library_of_an_extra_is_of_a_package_that_it_asks_for(extra):
    library = EXTRAS[extra][0]
    packages = {library, *packages_distributions()[library]}  # c2pa comes with c2pa-python
    assert names(packages) & names(PROJECT["optional-dependencies"][extra])


def test_no_library_of_an_extra_comes_with_a_plain_installation():
    base = names(PROJECT["dependencies"])
    assert not base & {name.replace("_", "-") for found in EXTRAS.values() for name in found}


def test_every_extra_for_users_is_part_of_all():
    [everything] = PROJECT["optional-dependencies"]["all"]
    inside = set(everything.removeprefix("unmask[").removesuffix("]").split(","))
    # A file is read without c2pa too, and the answer says that its credentials were not.
    assert inside == set(EXTRAS) - {"wandb"} | {"c2pa"}


def test_a_missing_extra_is_one_line(gone):
    gone("dvc")
    gone("timm")
    extras.check("unmask adopt", "mlflow")
    with pytest.raises(MissingExtraError) as told:
        extras.check("unmask adopt", "mlflow", "dvc", "train")
    assert str(told.value) == 'unmask adopt needs dvc and timm: pip install "unmask[dvc,train]"'


def test_an_import_that_failed_is_explained_where_an_extra_has_the_library(gone):
    gone("botocore")
    told = extras.explain("unmask x", ModuleNotFoundError("?", name="botocore.exceptions"))
    assert str(told) == 'unmask x needs botocore: pip install "unmask[aws]"'


@pytest.mark.parametrize("name", ["torch.nothing", "unheard_of", "unmask.nothing", None])
def test_damage_and_our_own_mistakes_are_no_missing_extra(name):
    assert extras.explain("unmask x", ModuleNotFoundError("?", name=name)) is None
