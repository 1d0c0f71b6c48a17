"""The tables of other people's data sets: labels.csv, meta_data.csv, Deepfake-Eval-2024's CSV."""

from fuzz.memory import read_chunk

_TABLES = ["labels.csv", "meta_data.csv", "video-metadata-publish-with-links.csv"]
_HEAD = "source,target1,target2,method,category,type,race,gender,path,\n"
_WHERE = "FakeAVCeleb/FakeVideo-FakeAudio/African/men/id00076"
_ROW = f"id00076,id00476,-,faceswap,C,FakeVideo-FakeAudio,African,men,a.mp4,{_WHERE}\n"
_SEEDS = [
    (0, "filename,label\na.mp4,1\nb.mp4,0\n"),
    (0, "\ufefffilename,label\r\na.mp4,2\r\n../b.mp4,0\r\n"),
    (0, "label,filename,label\n1,a.mp4\n"),
    (1, _HEAD + _ROW),
    (1, _HEAD + _ROW.replace("id00476", "a|b").replace("men/", "men/../")),
    (1, _HEAD.replace("path,", "filename,path") + _ROW),
    (2, "Filename,Video Ground Truth,Finetuning Set\na.mp4,Real,Test\nb.mov,Fake,Train\n"),
    (2, "Filename,Ground Truth\na.mp4,Unknown\nb.mp3,Fake\n"),
    (2, 'Filename,Video Ground Truth\n"a\nb.mp4",Real\n'),
]
SEEDS = [bytes([table]) + text.encode() for table, text in _SEEDS]
TOKENS = ["filename", "label", "Video Ground Truth", "Finetuning Set", "source", "target1", "type",
          "FakeVideo-FakeAudio", "RealVideo-FakeAudio", "faceswap", "id00076", "Unknown", "Test",
          ",", '"', ".mp4", "/", "..", "|", "\\x00", "\\xe2\\x80\\xae"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk with this table; its first byte says which of them it is."""
    if data:
        read_chunk(
            {_TABLES[data[0] % len(_TABLES)]: data[1:], "a.mp4": b"", "video-data/a.mp4": b""}
        )
