"""Miniatures of data sets: the files of a small chunk in each layout, with the lists it brings."""

import json


def frames(folder, numbers=(0, 1, 2), *, digits=3, ending=".png"):
    """Return the paths of a folder of frames."""
    return [f"{folder}/{number:0{digits}d}{ending}" for number in numbers]


def _bench_video(folder, label, numbers=(0, 9, 18)):
    """Return a video as DeepfakeBench's JSON has it, with the paths of whoever wrote it."""
    paths = [path.replace("/", "\\") for path in frames(f"D:/bench/rgb/{folder}", numbers)]
    return {"label": label, "frames": paths[::-1]}


CELEB_FRAMES = {
    "CelebDFv2_real": "Celeb-DF-v2/Celeb-real/frames/id0_0000",
    "CelebDFv2_fake": "Celeb-DF-v2/Celeb-synthesis/frames/id0_id1_0000",
}
BENCH_JSON = {
    "Celeb-DF-v2": {
        label: {
            "train": {folder.split("/")[-1]: _bench_video(folder, label)},
            "val": {},
            "test": {folder.split("/")[-1]: _bench_video(folder, label)},
        }
        for label, folder in CELEB_FRAMES.items()
    }
}
FAVC_HEADER = "source,target1,target2,method,category,type,race,gender,path,\n"
FAVC_ROWS = (
    "id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4,"
    "FakeAVCeleb/RealVideo-RealAudio/African/men/id00076\n"
    "id00076,id00476,-,faceswap,C,FakeVideo-RealAudio,African,men,00109_id00476.mp4,"
    "FakeAVCeleb/FakeVideo-RealAudio/African/men/id00076\n"
    "id00076,id00166,-,wav2lip,D,FakeVideo-FakeAudio,African,men,00109_2_id00166_wavtolip.mp4,"
    "FakeAVCeleb/FakeVideo-FakeAudio/African/men/id00076\n"
    "id00076,-,-,rtvc,B,RealVideo-FakeAudio,African,men,00109_fake.mp4,"
    "FakeAVCeleb/RealVideo-FakeAudio/African/men/id00076\n"
)

MINIATURES = {
    "DFDC": {
        "metadata.json": json.dumps({
            "a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},
            "b.mp4": {"label": "REAL", "split": "train"},
        }),
        "a.mp4": "", "b.mp4": "",
    },
    "DFDC test set": {
        "labels.csv": "filename,label\naassnaulhq.mp4,1\naayfryxljh.mp4,0\n",
        "aassnaulhq.mp4": "", "aayfryxljh.mp4": "", "metadata.json": "{}",
    },
    "FaceForensics++": {
        "original_sequences/youtube/c23/videos/000.mp4": "",
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4": "",
        "splits/test.json": '[["000", "003"]]',
    },
    "DeepFakeDetection": {
        "DFD_original sequences/01__walking.mp4": "",
        "DFD_manipulated_sequences/DFD_manipulated_sequences/01_02__walking__YVGY8LOK.mp4": "",
    },
    "Celeb-DF": {
        "Celeb-real/id0_0000.mp4": "", "YouTube-real/00000.mp4": "",
        "Celeb-synthesis/id0_id1_0000.mp4": "",
        "List_of_testing_videos.txt":
            "1 YouTube-real/00000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n",
    },
    "DeeperForensics-1.0": {
        "manipulated_videos/end_to_end/000_M101.mp4": "",
        "manipulated_videos/end_to_end/001_W004.mp4": "",
        "target_videos/000.mp4": "", "target_videos/001.mp4": "",
        "source_videos/M101/BlendShape/camera_up/M101_BlendShape_camera_up.mp4": "",
        "lists/splits/train.txt": "000_M101.mp4\n", "lists/splits/test.txt": "001_W004.mp4\n",
    },
    "FakeAVCeleb": {
        "meta_data.csv": FAVC_HEADER + FAVC_ROWS,
        "RealVideo-RealAudio/African/men/id00076/00109.mp4": "",
        "FakeVideo-RealAudio/African/men/id00076/00109_id00476.mp4": "",
        "FakeVideo-FakeAudio/African/men/id00076/00109_2_id00166_wavtolip.mp4": "",
        "RealVideo-FakeAudio/African/men/id00076/00109_fake.mp4": "",
    },
    "WildDeepfake": dict.fromkeys([
        *frames("real_test/6/real/54", digits=1), *frames("fake_test/100/fake/0", digits=1),
        *frames("fake_test/100/fake/1", digits=1), *frames("fake_train/7/fake/0", digits=1),
    ], ""),
    "DF-TIMIT": dict.fromkeys([
        "DeepfakeTIMIT/lower_quality/fadg0/sa1-video-fram1.avi",
        "DeepfakeTIMIT/higher_quality/fadg0/sa1-video-fram1.avi",
        "DeepfakeTIMIT/higher_quality/fadg0/sa1.wav",
        *frames("VidTIMIT/fadg0/video/sa1", (1, 2, 3), ending=""),
        *frames("VidTIMIT/fadg0/video/head", (1, 2, 3), ending=""),
    ], ""),
    "Deepfake-Eval-2024": {
        "video-metadata-publish-with-links.csv":
            "Filename,Media,Video Ground Truth,Audio Ground Truth,Finetuning Set\n"
            "a1.mp4,https://x,Real,Real,Test\nb2.mov,https://x, fake ,Unknown,Train\n"
            "c3.mp4,https://x,Unknown,Fake,Test\n",
        "video-data/a1.mp4": "", "video-data/b2.mov": "", "video-data/c3.mp4": "",
    },
    "DeepfakeBench": {
        "Celeb-DF-v2.json": json.dumps(BENCH_JSON),
        "Celeb-DF-v2/List_of_testing_videos.txt": "",
    } | dict.fromkeys(
        [path for folder in CELEB_FRAMES.values() for path in frames(folder, (0, 9, 18))], ""
    ),
    "UADFV": {"real/0000.mp4": "", "fake/0000_fake.mp4": "", "real/0001.mp4": ""},
    "manifest": {"manifest.csv": "path,label\na.mp4,REAL\nb.mp4,FAKE\n", "a.mp4": "", "b.mp4": ""},
    "folders": {"real/ann.mp4": "", "fake/swap/ann.mp4": ""},
}  # fmt: skip


def write(folder, files):
    """Write a chunk's files, in which contents are text or bytes."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
