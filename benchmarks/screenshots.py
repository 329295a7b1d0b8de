"""The pictures of the explorer in README and docs: python -m benchmarks.screenshots RUN, with a run of `nolabel demo`.

Needs Debian's chromium. The map is waited for until UMAP has made it.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.speed.explorer import FLAGS, explored

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE = {"width": 1280, "height": 800}


def main(run: Path) -> None:
    from playwright.sync_api import sync_playwright

    with explored(run) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(f"{address}#map")
            page.get_by_text("UMAP: neighbours lie together").wait_for(timeout=300_000)
            page.get_by_test_id("legend").wait_for()
            page.goto(f"{address}#map?item=7")
            page.get_by_test_id("detail").wait_for()
            page.wait_for_timeout(3000)
            page.screenshot(path=IMAGES / f"explorer-{scheme}.png")
            if scheme == "light":
                page.goto(f"{address}#search?item=7")
                page.get_by_test_id("hit").first.wait_for()
                page.wait_for_timeout(1000)
                page.screenshot(path=IMAGES / "explorer-search.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
