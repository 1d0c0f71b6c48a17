"""A list of DeepfakeBench's beside some frames."""

from fuzz.memory import read_chunk

_FRAMES = ["x/frames/a/000.png", "x/frames/a/009.png", "x/frames/b/1.png"]
SEEDS = [
    b'{"d": {"DFDC_Real": {"test": {"a": {"frames": ["/r/x/frames/a/000.png"]}}},'
    b' "DFDC_Fake": {"train": {"b": {"frames": ["C:\\\\x\\\\frames\\\\b\\\\1.png"]}}}}}',
    b'{"d": {"FF-real": {"train": {"c23": {"000": {"frames": ["x/frames/a/000.png"]}}}},'
    b' "FF-DF": {"val": {"c40": {"000_003": {"frames": ["x/frames/b/1.png"]}}}}}}',
    b'{"d": {"CelebDFv2_fake": {"test": {"id0_id1_0000": {"frames": ["x/frames/a/009.png"]}}}}}',
    b'{"d": {"DFDC_Real": {"val": {"label": "DFDC_Real", "frames": []}}}}',
    b'{"d": {"UADFV_Fake": {"test": {"../a": {"frames": [1]}}}}}',
    b'{"d": {"?": {}}}',
    b"[]",
    b'{"d": ' + b"[" * 960 + b"]" * 960 + b"}",
]
TOKENS = ['"label"', '"frames"', '"test"', '"val"', '"train"', '"FF-real"', '"FF-DF"', '"c23"',
          '"DFDC_Real"', '"CelebDFv2_fake"', '"UADFV_Fake"', '"DF_real"', "x/frames/a/000.png",
          "\\\\\\\\", "{", "}", "[", "]"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk with this list."""
    read_chunk({"DFDC.json": data, **dict.fromkeys(_FRAMES, b"")})
