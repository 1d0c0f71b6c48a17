"""Make the tutorial's pictures: `python docs/site/pictures.py FOLDER [NAME...]`.

FOLDER is a checkout in which docs/tutorial.md was followed. Its pages are opened in the system's
Chromium, and what a reader sees of them at first is written into docs/tutorial/, as WebP.
"""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

TARGET = Path(__file__).parents[1] / "tutorial"
# By name: the page, the width of the window, and its height.
PICTURES = {
    "report": ("clip.html", 900, 880),
    "index": ("index.html", 900, 900),
    "benchmark": ("benchmarks.html", 1200, 880),
}
QUALITY = 60


def take(folder: Path, names: list[str]) -> None:
    """Write the pictures of those names, or all."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    TARGET.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name in names or PICTURES:
            file, width_px, height_px = PICTURES[name]
            page = chromium.new_page(viewport={"width": width_px, "height": height_px})
            page.goto((folder / file).resolve().as_uri())
            page.wait_for_load_state("networkidle")
            shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            assert shot is not None
            cv2.imwrite(str(TARGET / f"{name}.webp"), shot, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
            page.close()
        chromium.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2:])
