"""The names of the files in a chunk, in the layouts that tell by them, and lists of videos."""

from fuzz.memory import read_chunk

_PAIRS = "splits/train.json="
_LISTS = [
    "original_sequences/youtube/c23/videos/000.mp4\n"
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4\n"
    f'{_PAIRS}[["000", "003"]]',
    "original_sequences/actors/raw/videos/01__walk.mp4\n"
    "manipulated_sequences/DeepFakeDetection/c40/01_02__walk__X.mp4\nmanipulated_sequences/x.mp4",
    "Celeb-real/id0_0000.mp4\nYouTube-real/00001.mp4\nCeleb-synthesis/id0_id1_0000.mp4",
    "real/a.mp4\nfake/swap/a.mp4\nfake/b.MKV",
    "real/0000.mp4\nfake/0000_fake.mp4",
    'real/a/000.png\nreal/a/9.png\nfake/x/b/1.jpg\nframes.json={"rate_fps": 30, "faces": "search"}',
    "real_test/6/real/54/0.png\nfake_test/1/0.png\nfake_train/1.tar.gz",
    "DFD_original sequences/01__a.mp4\nDFD_manipulated_sequences/01_02__a__X.mp4",
    "manipulated_videos/end_to_end/000_M101.mp4\ntarget_videos/000.mp4\nlists/splits/test.txt=000_M101.mp4",
    "VidTIMIT/fadg0/video/sa1/001\nlower_quality/fadg0/sa1-video-fram1.avi",
    "YouTube-real/00000.mp4\nList_of_testing_videos.txt=1 YouTube-real/00000.mp4",
    "Celeb-real/frames/id0_0000/000.png\nCeleb-synthesis/frames/id0_id1_0000/99999999999999.png",
    "real/\u202ea.mp4\nfake/.mp4\nfake/a|b.mp4",
    "real/a.mp4\nmetadata.json={}",
    "original_sequences/a/b/c.mp4\nsplits/val.json={}\nsplits/test.json=" + "[" * 960 + "]" * 960,
]
SEEDS = [seed.encode() for seed in _LISTS]
TOKENS = ["original_sequences/", "manipulated_sequences/", "Celeb-real/", "YouTube-real/",
          "Celeb-synthesis/", "real/", "fake/", "videos/", "masks/", "c23/", ".mp4", "000_003",
          "01__", "id0_id1_0000", "splits/test.json=", "\\x0a", "frames/", ".png",
          "frames.json=", "List_of_testing_videos.txt=", "lists/splits/test.txt=", "real_test/",
          "manipulated_videos/", "target_videos/", "VidTIMIT/", "0000_fake"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk of the files that the lines name; after "=" comes a file's content."""
    contents = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        path, _, content = line.partition("=")
        # What opening a folder or a zip has refused before.
        if path and path.isprintable() and not path.startswith("/") and len(path) < 400:
            contents[path] = content.encode()
    if contents:
        read_chunk(dict(sorted(contents.items())))
