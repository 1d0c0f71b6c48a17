"""The sections that training reads, taken out of all of params.yaml."""

from dataclasses import fields

from unmask import params
from unmask.models.settings import Settings


def test_the_sections_are_those_of_params_by_the_same_names():
    shipped = params.load()
    settings = Settings.of(shipped)
    names = [field.name for field in fields(Settings)]
    assert names == ["faces", "clips", "augment", "model", "train", "verdicts"]
    assert all(getattr(settings, name) is getattr(shipped, name) for name in names)


def test_dumped_sections_are_plain_values_that_make_the_same_settings():
    settings = Settings.of(params.load())
    dumped = settings.dumped()
    assert list(dumped) == ["faces", "clips", "augment", "model", "train", "verdicts"]
    assert dumped["train"]["epochs"] == settings.train.epochs
    assert params.Clips.model_validate(dumped["clips"]) == settings.clips
