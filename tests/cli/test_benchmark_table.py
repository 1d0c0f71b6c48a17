"""`unmask benchmark import` and `table`, by their commands."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from unmask.cli.benchmark_table import card, import_scores, table
from unmask.cli.command_group import CommandGroup
from unmask.evaluation.benchmarks import scores_file
from unmask.records import VideoRecord
from unmask.runtime.digests import model_digest
from unmask.runtime.record_files import write_index

GROUP = CommandGroup("benchmark", commands=[import_scores, table, card])
ROOT = Path(__file__).parents[2]


def run(*words: str) -> Result:
    result = CliRunner().invoke(GROUP, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two benchmarks: celeb of 4 videos, other of 2."""
    monkeypatch.chdir(tmp_path)
    for name, ids in (("celeb", "abcd"), ("other", ("p0", "p1", "p2"))):
        records = [
            VideoRecord(video, f"{video}.mp4", n % 2, f"s{n // 2}", ("real", "swap")[n % 2], "test")
            for n, video in enumerate(ids)
        ]
        write_index(tmp_path / "raw" / name / "index.csv", records)
    (tmp_path / "scores.csv").write_text("video,p,y\na,0.1,0\nb,0.8,1\nc,0.3,0\nd,0.9,1\ne,0.5,0\n")
    return tmp_path


NAMED = ("import", "celeb", "scores.csv", "--as", "xception", "--score-column", "p")
WHOLE = (*NAMED, "--id-column", "video", "--probabilities", "--higher-means", "fake")


def test_scores_are_taken_in_with_what_is_said_of_the_detector(checkout: Path) -> None:
    result = run(
        *WHOLE, "--label-column", "y", "--version", "v2", "--trained-on", "ff++", "--trained-on",
        "dfdc", "--licence", "MIT", "--threshold", "0.5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "celeb: 4 of 4 videos have a score by xception: 2 real, 2 fake; 5 rows" in result.output
    assert "1 row(s) name no video of the benchmark: 'e'." in result.output
    found = scores_file.read(scores_file.detector_place(Path("metrics"), "celeb", "xception"))
    assert [(row.video_id, row.probability, row.verdict) for row in found.rows] == [
        ("a", 0.1, "real"), ("b", 0.8, "fake"), ("c", 0.3, "real"), ("d", 0.9, "fake"),
    ]  # fmt: skip
    about = found.detector
    assert (about.version, about.trained_on, about.licence) == ("v2", ("ff++", "dfdc"), "MIT")
    assert (about.origin, about.notes["threshold"]) == ("imported", "0.5")
    again = run(*WHOLE)
    assert "its earlier scores are replaced" in again.output
    about = json.loads((checkout / "metrics/detectors/celeb/xception.json").read_text())
    assert about["detector"]["trained_on"] is None  # nobody says


@pytest.mark.usefixtures("checkout")
def test_scores_the_wrong_way_round_are_asked_about() -> None:
    result = run(*WHOLE[:-1], "real")
    assert result.exit_code == 0
    assert "AUC 0.000, below chance: does a higher score mean" in result.output


def test_paths_of_the_chunk_are_known_where_it_is_there(checkout: Path) -> None:
    chunk = checkout / "data/chunks/celeb"
    for folder in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
        (chunk / folder).mkdir(parents=True)
    for name in (
        "Celeb-real/id0_0000.mp4",
        "YouTube-real/00000.mp4",
        "Celeb-synthesis/id0_id1_0000.mp4",
    ):
        (chunk / name).write_bytes(b"x")
    from unmask.data import archive, datasets

    with archive.open_chunk(chunk) as files:
        entries = datasets.read(files)
    records = [
        VideoRecord(Path(e.file).stem, e.file, e.label, e.source_id, e.method, "test")
        for e in entries
    ]
    write_index(checkout / "raw/celeb/index.csv", records)
    (checkout / "scores.csv").write_text(
        "f,p\n/x/Celeb-real/id0_0000.mp4,0.1\n/x/YouTube-real/00000.mp4,0.2\n"
        "/x/Celeb-synthesis/id0_id1_0000.mp4,0.7\n"
    )
    result = run(*NAMED, "--path-column", "f", "--probabilities", "--higher-means", "fake")
    assert result.exit_code == 0, result.output
    assert "3 of 3 videos" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*NAMED, "--id-column", "video", "--higher-means", "fake"), "Say what the scores are"),
        ((*NAMED, "--logits", "--higher-means", "fake"), "either --id-column or --path-column"),
        ((*WHOLE, "--path-column", "video"), "either --id-column or --path-column"),
        ((*WHOLE, "--delimiter", ",,"), "--delimiter is one letter"),
        ((*WHOLE, "--threshold", "nan"), "a finite number"),
        ((*WHOLE, "--threshold", "2.5"), "says are in [0, 1]; found 2.5"),
        ((*WHOLE, "--logits"), "Say what the scores are, once"),
        (("import", "celebs", *WHOLE[2:]), "There are celeb, other"),
        (("import", "../celeb", *WHOLE[2:]), "Give it another name"),
        ((*WHOLE[:4], "a/b", *WHOLE[5:]), "Give it another name"),
        ((*WHOLE, "--score-column", "q"), "There are 'video', 'p', 'y'."),
    ],
)
def test_what_is_not_said_is_asked_for(words: tuple[str, ...], said: str, checkout: Path) -> None:
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert said in result.output
    assert not (checkout / "metrics").exists()


def test_a_table_with_another_delimiter_is_asked_about(checkout: Path) -> None:
    (checkout / "scores.csv").write_bytes(b'\xef\xbb\xbf"video";p\r\n"a";0.1\r\n')
    result = run(*WHOLE)
    assert result.exit_code == 1
    assert "another --delimiter?" in result.output
    done = run(*WHOLE, "--delimiter", ";", "--allow-missing")
    assert done.exit_code == 0, done.output
    assert "1 of 4 videos have a score" in done.output


def test_scores_of_another_benchmark_are_told(checkout: Path) -> None:
    (checkout / "scores.csv").write_text("video,p\np0,0.1\np1,0.2\np2,0.3\n")
    result = run(*WHOLE)
    assert result.exit_code == 1
    assert "They look like those of other: is the file about that benchmark?" in result.output


def test_half_the_videos_missing_is_refused_and_can_be_allowed(checkout: Path) -> None:
    (checkout / "scores.csv").write_text("video,p\na,0.1\nb,0.2\n")
    result = run(*WHOLE)
    assert result.exit_code == 1
    assert "one for 2 of them in 2 rows. Without one: 'c', 'd'." in result.output
    result = run(*WHOLE, "--allow-missing")
    assert result.exit_code == 0
    assert "2 videos have no score: 'c', 'd'" in result.output


def test_nothing_a_file_says_draws_on_the_terminal(checkout: Path) -> None:
    (checkout / "scores.csv").write_text("video,p\n\x1b[2Ja,0.1\n", newline="")
    result = run(*WHOLE)
    assert result.exit_code == 1
    assert "\x1b" not in result.output


def test_no_torch_is_imported() -> None:
    import subprocess
    import sys

    words = "import sys, unmask.evaluation.benchmarks.imported; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )
    assert found.stdout == "False\n"


# ---------------------------------------------------------------- the table


@pytest.fixture
def two_detectors(checkout: Path) -> Path:
    (checkout / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for name, scores in (("alpha", "0.1 0.8 0.3 0.9"), ("beta", "0.6 0.5 0.4 0.9")):
        lines = [f"{v},{p}\n" for v, p in zip("abcd", scores.split(), strict=True)]
        (checkout / "scores.csv").write_text("video,p\n" + "".join(lines))
        found = run(*WHOLE[:4], name, *WHOLE[5:])
        assert found.exit_code == 0, found.output
    return checkout


@pytest.mark.parametrize(
    ("form", "beginning"),
    [("terminal", "celeb: 4 videos"), ("markdown", "# Detectors"), ("csv", "benchmark,detector")],
)
@pytest.mark.usefixtures("two_detectors")
def test_a_table_is_printed_or_written(form: str, beginning: str) -> None:
    printed = run("table", "--format", form)
    assert printed.exit_code == 0, printed.output
    assert printed.output.startswith(beginning)
    assert "alpha" in printed.output
    written = run("table", "celeb", "--format", form, "--out", "here/table.txt")
    assert written.exit_code == 0, written.output
    assert Path("here/table.txt").read_text() == printed.output


@pytest.mark.usefixtures("two_detectors")
def test_a_page_is_a_file_of_its_own() -> None:
    result = run("table", "--format", "html")
    assert result.exit_code == 1
    assert "name it by --out" in result.output
    result = run("table", "--format", "html", "--out", "page.html", "--first", "beta")
    assert result.exit_code == 0, result.output
    assert "minus <bdi>beta</bdi>" in Path("page.html").read_text()


def test_a_table_of_nothing_or_of_another_list_is_refused(two_detectors: Path) -> None:
    assert "there are alpha, beta" in run("table", "--first", "gamma").output
    assert "has no scores of it. There are scores on: celeb" in run("table", "other").output
    index = two_detectors / "raw/celeb/index.csv"
    index.write_text(index.read_text().replace("d,d.mp4,1,s1,swap", "d,d.mp4,1,s1,blend"))
    result = run("table")
    assert result.exit_code == 1
    assert "alpha, beta scored on another list" in result.output
    result = run("table", "--metrics", "nowhere")
    assert "nowhere has no scores" in result.output


def test_a_card_is_written_beside_the_models(two_detectors: Path) -> None:
    model = two_detectors / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights")
    (model / "checkpoint.json").write_text("{}")
    result = run("card", "published")
    assert result.exit_code == 1
    assert "model/MODEL_CARD.md; it can't be read" in result.output
    (model / "MODEL_CARD.md").write_text("# ours\n\n## Known limits\n")
    assert "scored on none of 1 benchmarks" in run("card", "published").output
    place = scores_file.detector_place(Path("metrics"), "celeb", "alpha")
    found = scores_file.read(place)
    about = replace(found.detector, model_digest=model_digest(model))
    scores_file.write(place, replace(found, detector=about))
    result = run("card", "published")
    assert result.exit_code == 0, result.output
    assert "of 1 benchmarks" in result.output
    card = Path("published/MODEL_CARD.md").read_text()
    assert card.index("| celeb | 2 | 2 | 100.0% | 1.000") < card.index("## Known limits")
    assert json.loads(Path("published/benchmarks.json").read_text())["benchmarks"][0]["fake"] == 2
    assert (model / "MODEL_CARD.md").read_text() == "# ours\n\n## Known limits\n"
