"""Queues are written, torn, cut off and sent to a place that is a list."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.tracking import offline_queue
from unmask.tracking.offline_queue import (
    DeliveryError,
    Event,
    OfflineQueue,
    RefusedError,
    read_events,
    upload,
    waiting,
)
from unmask.tracking.tracker import TrackingError

OPENING = {"kind": "begin", "key": "a key", "place": "here", "time_ms": 1}


class ListSender:
    """Keeps what it is sent, until it has taken as many events as it can."""

    def __init__(self, place: str = "here", *, room: int = 1000) -> None:
        self.place, self.room = place, room
        self.refused: set[int] = set()
        self.begun: list[Event] = []
        self.kept: list[tuple[Event, bytes | None]] = []

    def begin(self, opening: Event) -> str:
        if not self.room:
            raise DeliveryError("the place is down")
        self.begun.append(opening)
        return "run 1"

    def send(self, event: Event, path: Path | None) -> str | None:
        if len(self.kept) >= self.room:
            raise DeliveryError("the place is down")
        if event.get("number") in self.refused:
            raise RefusedError("413 Too Large.")
        self.kept.append((event, path.read_bytes() if path and path.is_file() else None))
        return None

    @property
    def numbers(self) -> list[int]:
        return [event["number"] for event, _ in self.kept if "number" in event]


def numbered(root: Path, count: int, *, key: str = "a key", ends: bool = True) -> Path:
    """Write a queue of numbered events, and let it go."""
    one = OfflineQueue.begin(root, OPENING | {"key": key})
    for number in range(count):
        one.append({"kind": "note", "number": number, "time_ms": 10 + number}, None)
    if ends:
        one.append({"kind": "end", "status": "FINISHED", "time_ms": 99}, None)
    one.release()
    return one.folder


def test_events_and_copies_of_files_read_back(tmp_path: Path, model_folder: Path) -> None:
    one = OfflineQueue.begin(tmp_path / "queues", OPENING)
    picture = tmp_path / "roc.png"
    picture.write_bytes(b"first")
    one.append({"kind": "file", "folder": "plots", "time_ms": 2}, picture)
    one.append({"kind": "model", "time_ms": 3}, model_folder)
    picture.write_bytes(b"second")  # the same name, another content
    one.append({"kind": "file", "folder": None, "time_ms": 4}, picture)
    picture.unlink()
    opening, first, model, second = read_events(one.folder)
    assert opening == OPENING
    assert (one.folder / first["path"]).read_bytes() == b"first"
    assert (one.folder / second["path"]).read_bytes() == b"second"
    assert Path(second["path"]).name == "roc.png"
    assert {path.name for path in (one.folder / model["path"]).iterdir()} == {
        path.name for path in model_folder.iterdir()
    }
    one.remove()
    assert waiting(tmp_path / "queues") == []


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    folder = numbered(tmp_path, 3)
    file = folder / offline_queue.EVENTS
    whole = file.read_bytes()
    last = whole.rstrip().rindex(b"\n") + 1
    for end in range(last, len(whole)):
        file.write_bytes(whole[:end])
        assert [event.get("number") for event in read_events(folder)] == [None, 0, 1, 2]


def test_a_sending_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = numbered(tmp_path, 5)
    short = ListSender(room=2)
    with pytest.raises(TrackingError, match="the place is down"):
        list(upload(tmp_path, lambda _: short))
    assert short.numbers == [0, 1]
    rest = ListSender()
    [line] = upload(tmp_path, lambda _: rest)
    assert rest.numbers == [2, 3, 4]
    assert rest.begun == [read_events(folder)[0]] if folder.exists() else [OPENING]
    assert line == f"{folder.name}: 6 events sent to here, run run 1"
    assert not folder.exists()
    assert list(upload(tmp_path, lambda _: rest)) == []


def test_a_runs_older_part_goes_first_and_blocks_the_newer(tmp_path: Path) -> None:
    first, second = numbered(tmp_path, 2), numbered(tmp_path, 1)
    other = numbered(tmp_path, 1, key="other")
    assert [path.name for path in waiting(tmp_path)] == [first.name, second.name, other.name]
    tried: list[ListSender] = []

    def sender_at(place: str) -> ListSender:
        tried.append(ListSender(place, room=0 if len(tried) == 0 else 9))
        return tried[-1]

    lines = []
    with pytest.raises(TrackingError, match=r"of 1 runs it was not taken: .* Nothing is lost"):
        lines.extend(upload(tmp_path, sender_at))
    for line in upload(tmp_path, sender_at):
        lines.append(line)
    assert [sender.numbers for sender in tried] == [[], [], [0], [0, 1], [0]]


def test_a_run_whose_process_died_ends_as_killed_when_it_wrote_last(tmp_path: Path) -> None:
    numbered(tmp_path, 2, ends=False)
    sender = ListSender()
    list(upload(tmp_path, lambda _: sender))
    assert sender.kept[-1] == ({"kind": "end", "status": "KILLED", "time_ms": 11}, None)


def test_a_spool_is_sent_by_nobody_while_its_process_lives(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from unmask.tracking.offline_queue import OfflineQueue
one = OfflineQueue.begin(Path({str(tmp_path)!r}), {OPENING!r})
print(one.folder.name, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        [line] = upload(tmp_path, lambda _: ListSender())
        assert line == f"{name}: a process that still runs writes it, and will send it"
        process.kill()
    [line] = upload(tmp_path, lambda _: ListSender())
    assert line.startswith(f"{name}: 0 events sent")


def test_what_a_kill_leaves_of_a_removal_is_taken_away(tmp_path: Path) -> None:
    for left in ((), (offline_queue.LOCK,), (offline_queue.LOCK, offline_queue.SENT)):
        folder = tmp_path / f"key-{1:020}"
        folder.mkdir()
        for name in left:
            (folder / name).touch()
        sender = ListSender()
        assert list(upload(tmp_path, lambda _, sender=sender: sender)) == []
        assert (sender.begun, folder.exists()) == ([], False)


def test_any_key_makes_one_folder(tmp_path: Path) -> None:
    one = OfflineQueue.begin(tmp_path, OPENING | {"key": "../a/b c"})
    assert [path.name for path in tmp_path.iterdir()] == [one.folder.name]
    assert json.loads((one.folder / offline_queue.EVENTS).read_text())["key"] == "../a/b c"
    one.remove()


def test_what_is_refused_holds_back_nothing_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = numbered(tmp_path, 4)
    sender = ListSender()
    sender.refused = {1}
    lines = []
    with pytest.raises(TrackingError, match=f"was refused.*{folder}"):
        lines.extend(upload(tmp_path, lambda _: sender))
    assert sender.numbers == [0, 2, 3]
    assert sender.kept[-1][0]["kind"] == "end"
    [warning] = caplog.messages
    assert "asked to keep its note; found: 413 Too Large. The rest goes on." in warning
    assert str(folder) in warning
    for _ in range(2):  # it is not lost by being refused again
        with pytest.raises(TrackingError, match="was refused"):
            list(upload(tmp_path, lambda _: sender))
    sender.refused.clear()
    [line] = upload(tmp_path, lambda _: sender)
    assert line == f"{folder.name}: 1 events sent to here, run run 1"
    assert sender.numbers == [0, 2, 3, 1]
    assert sender.kept[-1][0]["kind"] == "note"  # the run's end stays what it was
    assert sender.begun[-1]["adds_only"]
    assert not folder.exists()


@pytest.mark.parametrize("damaged", [b"\0" * 40, b"\xff", b"3", b"{}"])
def test_a_damaged_line_is_a_warning_and_what_stands_before_it_is_sent(
    damaged: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = numbered(tmp_path, 3)
    file = folder / offline_queue.EVENTS
    lines = file.read_bytes().split(b"\n")
    lines[2] = damaged
    file.write_bytes(b"\n".join(lines))
    sender = ListSender()
    for _ in range(2):
        list(upload(tmp_path, lambda _: sender))
    assert sender.numbers == [0]
    [warning] = caplog.messages
    assert f"{folder} was read" in warning
    assert "line 3 is damaged" in warning
    assert (folder / offline_queue.DAMAGED).read_bytes() == b"\n".join(lines)


def test_a_damaged_opening_and_what_is_no_spool_stay_where_they_are(tmp_path: Path) -> None:
    folder = numbered(tmp_path, 1)
    (folder / offline_queue.EVENTS).write_bytes(b"\0\0\n")
    (tmp_path / "notes-1").mkdir()
    (tmp_path / f"stray-{1:020}").write_text("a file")
    assert waiting(tmp_path) == [folder]
    assert list(upload(tmp_path, lambda _: ListSender())) == []
    assert (folder / offline_queue.DAMAGED).read_bytes() == b"\0\0\n"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_strangers_spool_sends_no_file_and_writes_through_no_link(tmp_path, caplog):
    victim = tmp_path / "secret"
    victim.write_text("dear")
    opening = {"kind": "open", "key": "k", "place": "p", "time_ms": 1}
    for path in ("../../secret", str(victim), 3, "files/out/secret"):
        folder = tmp_path / "queues/k-00000000000000000001"
        (folder / "files").mkdir(parents=True)
        (folder / "files/out").symlink_to(tmp_path)
        event = {"kind": "file", "time_ms": 2, "path": path}
        lines = [json.dumps(each) + "\n" for each in (opening, event)]
        (folder / offline_queue.EVENTS).write_text("".join(lines))
        assert offline_queue.read_events(folder) == [opening]
        shutil.rmtree(folder)
    (folder / "files").mkdir(parents=True)
    (folder / offline_queue.EVENTS).write_text(json.dumps(opening) + "\n")
    (folder / offline_queue.LOCK).symlink_to(tmp_path / "made")
    assert offline_queue.OfflineQueue.claim(folder) is None
    assert "it holds links" in caplog.text
    assert not (tmp_path / "made").exists()
