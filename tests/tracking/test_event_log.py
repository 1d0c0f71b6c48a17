"""What a run does when its place comes and goes: the place is one that can be switched off."""

import json
import logging
from pathlib import Path

import pytest

from unmask.tracking import event_log
from unmask.tracking.event_log import EventTracker
from unmask.tracking.offline_queue import (
    DeliveryError,
    Event,
    RefusedError,
    read_events,
    upload,
    waiting,
)
from unmask.tracking.tracker import TrackingError


class Place:
    """Keeps the events of runs by their key, as long as it is up."""

    place = "http://place"

    def __init__(self) -> None:
        self.up, self.asked = True, 0
        self.runs: dict[str, list[Event]] = {}
        self.refused: str | None = None
        self.refuses = ""  # a kind of event
        self._run: list[Event] = []

    def begin(self, opening: Event) -> str:
        self._answer("the run")
        if self.refused:
            raise TrackingError(self.refused)
        self._run = self.runs.setdefault(opening["key"], [])
        return f"run of {opening['key']}"

    def send(self, event: Event, path: Path | None) -> str | None:
        self._answer(event["kind"])
        if event["kind"] == self.refuses:
            raise RefusedError("413 Too Large")
        content = path.read_bytes() if path is not None and path.is_file() else None
        self._run.append(event | {"content": content})
        return f"{self.place}/{event['kind']}" if event["kind"] == "model" else None

    def _answer(self, what: str) -> None:
        self.asked += 1
        if not self.up:
            raise DeliveryError(f"{what} did not reach {self.place}")

    def losses(self, key: str = "k") -> list[tuple[int, float]]:
        metrics = [event for event in self.runs[key] if event["kind"] == "metrics"]
        return [(event["step"], event["values"]["val_loss"]) for event in metrics]

    def kinds(self, key: str = "k") -> list[str]:
        return [event["kind"] for event in self.runs[key]]


@pytest.fixture
def queues(tmp_path: Path) -> Path:
    return tmp_path / ".tracking"


def begin(place: Place, queues: Path, key: str = "k") -> EventTracker:
    return event_log.begin(place, queues, key=key, resume=True, experiment="unmask", run_name=None)


def log_epochs(tracker: EventTracker, *epochs: int) -> None:
    for epoch in epochs:
        tracker.log_metrics({"val_loss": epoch / 8}, step=epoch)


def test_what_is_taken_is_not_written_here(
    queues: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    with begin(place, queues) as tracker:
        tracker.log_params({"train": {"lr": 0.1, "path": Path("a")}})
        log_epochs(tracker, 0)
        assert tracker.log_model(model_folder) == "http://place/model"
    assert place.kinds() == ["params", "metrics", "model", "end"]
    assert place.runs["k"][0]["values"] == {"train.lr": 0.1, "train.path": "a"}
    assert not queues.exists()
    assert caplog.records == []


def test_a_place_that_is_down_at_the_start_gets_all_of_it_later(
    queues: Path, tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    place.up = False
    (tmp_path / "a.png").write_bytes(b"a")
    with begin(place, queues) as tracker:
        tracker.log_params({"seed": 7})
        log_epochs(tracker, 0, 1)
        tracker.log_file(tmp_path / "a.png", "plots")
        assert tracker.log_model(model_folder) is None
        tracker.register_model(model_folder, "champion")
    [folder] = waiting(queues)
    [warning] = caplog.messages
    assert warning == (
        f"Run k: the run did not reach http://place. The work goes on. What was not sent is kept "
        f"in {folder}: it is sent when http://place answers again, or by `unmask log`."
    )
    place.up = True
    list(upload(queues, lambda _: place))
    assert place.kinds() == ["params", "metrics", "metrics", "file", "model", "register", "end"]
    assert place.losses() == [(0, 0.0), (1, 0.125)]
    assert place.runs["k"][3]["content"] == b"a"
    assert waiting(queues) == []


def test_a_place_that_comes_back_gets_the_rest_and_goes_on_live(
    queues: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    place = Place()
    tracker = begin(place, queues)
    log_epochs(tracker, 0)
    place.up = False
    log_epochs(tracker, 1, 2)
    place.up = True
    log_epochs(tracker, 3)  # not tried: the pause is not over
    assert place.losses() == [(0, 0.0)]
    monkeypatch.setattr(event_log, "PAUSE_S", 0.0)
    tracker._next_try_s = 0.0
    log_epochs(tracker, 4)
    assert place.losses() == [(epoch, epoch / 8) for epoch in range(5)]
    assert waiting(queues) == []
    assert caplog.messages[-1] == "Run k: all that waited was sent to http://place"
    asked = place.asked
    log_epochs(tracker, 5)
    assert place.asked == asked + 1
    tracker.finish(failed=False)
    assert place.kinds()[-1] == "end"


def test_a_place_that_is_down_is_not_asked_at_every_call(queues: Path) -> None:
    place = Place()
    tracker = begin(place, queues)
    place.up = False
    before = place.asked
    log_epochs(tracker, *range(50))
    assert place.asked == before + 1
    tracker.finish(failed=True)  # one more try
    assert place.asked == before + 2
    assert read_events(waiting(queues)[0])[-1]["status"] == "FAILED"


def test_the_end_brings_what_waits(queues: Path) -> None:
    place = Place()
    with begin(place, queues) as tracker:
        place.up = False
        log_epochs(tracker, 0, 1)
        place.up = True
    assert place.kinds() == ["metrics", "metrics", "end"]
    assert waiting(queues) == []


def test_what_comes_later_does_not_overtake_what_waits(queues: Path) -> None:
    place = Place()
    place.up = False
    with begin(place, queues) as training:
        log_epochs(training, 0, 1)
    with begin(place, queues, key="another") as other:
        log_epochs(other, 7)
    with begin(place, queues) as evaluation:  # down still: behind the training
        log_epochs(evaluation, 2)
        place.up = True
    assert place.losses() == [(0, 0.0), (1, 0.125), (2, 0.25)]
    assert [path.name.partition("-")[0] for path in waiting(queues)] == ["another"]
    with begin(place, queues, key="another") as other:  # up again: what waits goes first
        log_epochs(other, 8)
    assert place.losses("another") == [(7, 7 / 8), (8, 1.0)]
    assert waiting(queues) == []


def test_what_was_meant_for_another_place_stays(queues: Path) -> None:
    place, other = Place(), Place()
    place.up = False
    other.place = "http://other"
    begin(place, queues).finish(failed=False)
    begin(other, queues).finish(failed=False)
    assert other.kinds() == ["end"]
    assert len(waiting(queues)) == 1


def test_a_refusal_at_the_start_is_an_error_and_leaves_nothing(queues: Path) -> None:
    place = Place()
    place.refused = "The experiment was deleted."
    with pytest.raises(TrackingError, match="was deleted"):
        begin(place, queues)
    assert not queues.exists()


def test_the_opening_names_the_run_that_was_begun(queues: Path) -> None:
    place = Place()
    tracker = begin(place, queues)
    place.up = False
    tracker.log_tags({"late": True})
    opening, event = read_events(waiting(queues)[0])
    assert opening["run"] == "run of k"
    assert json.loads(json.dumps(event))["values"] == {"late": True}
    tracker.finish(failed=False)


@pytest.mark.parametrize("up", [True, False])
def test_what_is_refused_holds_back_nothing(
    up: bool, queues: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    place.up, place.refuses = up, "model"
    with begin(place, queues) as tracker:
        log_epochs(tracker, 0)
        assert tracker.log_model(model_folder) is None
        log_epochs(tracker, 1)
        place.up = True
    assert place.kinds() == ["metrics", "metrics", "end"]
    assert "asked to keep its model" in caplog.messages[-1]
    [folder] = waiting(queues)
    assert str(folder) in caplog.messages[-1]
    begin(place, queues).finish(failed=False)  # a later run neither sends nor loses it
    assert waiting(queues) == [folder]
    place.refuses = ""
    list(upload(queues, lambda _: place))
    assert place.kinds() == ["metrics", "metrics", "end", "end", "model"]
    assert waiting(queues) == []


def test_a_damaged_spool_stops_no_run(queues: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.up = False
    begin(place, queues).finish(failed=False)
    [folder] = waiting(queues)
    (folder / "events.jsonl").write_bytes(b"\0\n")
    (queues / "stray").touch()
    place.up = True
    caplog.clear()
    for _ in range(2):
        begin(place, queues).finish(failed=False)
    assert place.kinds() == ["end", "end"]
    assert [str(folder) in message for message in caplog.messages] == [True]


def test_the_pause_doubles(queues: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(event_log.time, "monotonic", lambda: now_s)
    place = Place()
    place.up = False
    tracker = begin(place, queues)
    tried_s = []
    for second in range(1, 1000):
        now_s, before = float(second), place.asked
        log_epochs(tracker, 0)
        tried_s += [second] if place.asked > before else []
    assert tried_s == [30, 90, 210, 450, 750]
    tracker.finish(failed=False)


def test_a_run_that_is_only_added_to_keeps_its_end(queues: Path) -> None:
    place = Place()
    for up in (True, False):
        place.up = up
        adding = event_log.begin(
            place, queues, key="k", resume=True, experiment="unmask", run_name=None, adds_only=True
        )
        with adding as tracker:
            tracker.log_tags({"up": up})
    place.up = True
    list(upload(queues, lambda _: place))
    assert place.kinds() == ["tags", "tags"]
