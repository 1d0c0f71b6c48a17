"""Any detector's scores on a benchmark, a CSV that `unmask benchmark import` takes."""

from itertools import product

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.evaluation.benchmarks import imported, scores_file
from unmask.evaluation.benchmarks.imported import Meaning
from unmask.evaluation.benchmarks.matching import Matcher
from unmask.evaluation.benchmarks.score_table import Columns
from unmask.records import VideoRecord

_FOLDER = make()
_RECORDS = [
    VideoRecord("a", "a.mp4", 0, "ann", "real", "test"),
    VideoRecord("b", "b.mp4", 1, "ann", "swap", "test"),
]
_MATCHER = Matcher(_RECORDS, {"a": ["real/x/a.mp4"], "b": ["fake/x/b.mp4"]})
_COLUMNS = (
    Columns("p", video_id="id", label="y", compression="q", generator="g"),
    Columns("p", path="id", frame="f"),
)
_MEANINGS = (
    Meaning("probability", "real", threshold=0.5), Meaning("logit", "fake", pool="max"),
    Meaning("ranking", "real"),
)  # fmt: skip
SEEDS = [
    b"id,p,f,y,q,g\na,0.5,1,0,c23,\nb,1,1,fake,c23,net\nz,0.1,2,1,,\n",
    b"\xef\xbb\xbfid,p,f,y,q,g\r\nreal/x/a.mp4,-1e308,1,0,,\r\nb,1e308,2,1,,\r\n",
    b"id,p,f,y,q,g\nb,1e308,1,1,,\nb,1e308,2,1,,\na,1e-320,1,,,\n",
    b"id,p,f,y,q,g\na,nan,1,0,,\nb,inf,,1,,\n",
    b"id,p,f,y,q,g\n" + b"a" * 140_000 + b",0.5,,,,\n",
    b'id,p,f,y,q,g\n"a\r\nb",0.5,\x00,\xff,,\n',
    b"id,id,p\n",
    b"",
]
TOKENS = ["id", "p", "0.5", "1e308", "-inf", "nan", "1_0", "real/x/a.mp4", ",", '"', "\\x0d",
          "\\x00", "\\x1b", "\\xe2\\x80\\xa8", "\\xef\\xbb\\xbf", "=1+1", "'", "../"]  # fmt: skip


def read(data: bytes) -> None:
    """Import the file in every way; what is imported is written, and read as it was."""
    path = put(_FOLDER / "scores.csv", data)
    place = scores_file.detector_place(_FOLDER, "made", "fuzzed")
    for columns, meaning in product(_COLUMNS, _MEANINGS):
        try:
            found = imported.read(path, _MATCHER, _RECORDS, columns, meaning, allow_missing=True)
        except UnmaskError:
            continue
        about = scores_file.Detector("fuzzed", meaning.scale, origin="imported")
        scores = scores_file.Scores("made", about, found.rows, found.frames)
        scores_file.write(place, scores)
        again = scores_file.read(place)
        assert (again.rows, again.frames) == (found.rows, found.frames), "it is read otherwise"
