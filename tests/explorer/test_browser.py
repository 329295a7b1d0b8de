"""The explorer as a person uses it, in Debian's Chromium: open, search, lasso, mark, export, reload."""

import os
import re
import shutil

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import expect, sync_playwright
from tests.explorer.conftest import ODD

from nolabel.search import Index

expect.set_options(timeout=30_000)
CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--no-sandbox"),
]
if CHROMIUM is None and os.environ.get("NOLABEL_BROWSER") != "required":
    pytest.skip("no chromium on this machine: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page in which nothing may go wrong unseen: no error, no request to anywhere else."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if _bad(message) else None)
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert wrong == []
    assert {url.split("/")[2].rpartition(":")[0] for url in asked if url.startswith("http")} <= {"127.0.0.1"}


def _bad(message):
    """An error on the console, other than the browser's note of a refusal that the page shows in words."""
    return message.type == "error" and "status of 400" not in message.text


def at(page, name):
    return page.get_by_test_id(name)


def lasso(page):
    """Draw around nearly the whole map."""
    at(page, "lasso").click()
    box = at(page, "map-canvas").bounding_box()
    left, top = box["x"] + 2, box["y"] + 2
    right, bottom = box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 4)):
        page.mouse.move(x, y, steps=12)
    page.mouse.up()


def test_open_lasso_mark_export_reload(page, served, photos_copy, tmp_path):
    address = served(photos_copy)
    page.goto(address)
    expect(at(page, "map-method")).to_contain_text("81 images")
    at(page, "colour").select_option("folder")
    expect(at(page, "legend")).to_contain_text(ODD)  # a label that wants to be markup is text
    expect(at(page, "map-canvas")).to_have_attribute("data-drawn", re.compile("[2-9]"))
    page.wait_for_timeout(1500)  # until the points have the colours that were chosen last: a drawing ends a lasso
    lasso(page)
    expect(at(page, "selected-count")).to_contain_text("81")
    at(page, "panel").get_by_test_id("mark-keep").first.click()
    expect(at(page, "saved")).to_contain_text(re.compile("saved", re.I))
    assert len(Index(photos_copy).ids("curated = 'keep'")) == 81
    page.reload()
    at(page, "tab-curate").click()
    expect(page.get_by_text(re.compile(r"keep\s*81"))).to_be_visible()
    at(page, "undo").first.click()
    expect(page.get_by_text(re.compile(r"keep\s*0"))).to_be_visible()
    assert len(Index(photos_copy).ids("curated = 'keep'")) == 0
    at(page, "curate-where").fill("id < 5")
    at(page, "curate-where").press("Enter")
    expect(page.get_by_text("1 to 5 of 5")).to_be_visible()
    with page.expect_download() as download:
        at(page, "export-parquet").click()
    download.value.save_as(tmp_path / "subset.parquet")
    assert pq.read_table(tmp_path / "subset.parquet")["id"].to_pylist() == [0, 1, 2, 3, 4]


def test_search_by_item_by_picture_and_by_sql(page, served, photos_copy):
    page.goto(f"{served(photos_copy)}/#search")
    table = Index(photos_copy).rows()
    number = table["path"].to_pylist().index("even/004.png")
    at(page, "search-box").fill(f"like item {table['id'][number].as_py()}")
    at(page, "search-go").click()
    expect(at(page, "search-status")).to_contain_text(re.compile(r"\d+ hits"))
    expect(at(page, "stack").first).to_contain_text("+1")  # the copy is folded
    at(page, "where").fill("folder <> 'even'")
    at(page, "search-go").click()
    expect(page).to_have_url(re.compile("where=folder"))
    expect(at(page, "search-status")).to_contain_text(re.compile(r"\d+ hits"))
    even = at(page, "hits").get_by_role("button", name=re.compile("^even"))
    expect(even).to_have_count(0)
    at(page, "where").fill("nope = 3")
    at(page, "search-go").click()
    expect(page.get_by_text(re.compile("the columns are id"))).to_be_visible()
    at(page, "where").fill("")
    chooser = at(page, "upload")
    chooser.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": _png()})
    expect(at(page, "search-status")).to_contain_text(re.compile(r"\d+ hits"))
    expect(page.get_by_role("img", name="x.png")).to_be_visible()
    expect(at(page, "stack")).to_have_count(1)
    at(page, "hit").first.get_by_role("button").first.focus()
    page.keyboard.press("d")
    expect(at(page, "saved")).to_contain_text(re.compile("saved", re.I))
    assert len(Index(photos_copy).ids("curated = 'drop'")) == 1


def test_texts_with_markup_and_the_words_that_matched(page, served, texts_run):
    page.goto(f"{served(texts_run)}/#search")
    at(page, "search-box").fill("onerror")
    at(page, "mode").select_option("bm25")
    at(page, "search-go").click()
    first = at(page, "hit").first
    expect(first).to_contain_text("<img src=x onerror=alert(1)> is a text")
    expect(first).to_contain_text("onerror")
    assert page.locator("img[src='x']").count() == 0
    at(page, "tab-clusters").click()
    expect(at(page, "cluster").first).to_be_visible()
    at(page, "tab-judge").click()
    expect(at(page, "verdict")).to_contain_text("dimensions in use")


def test_two_runs_beside_each_other_on_a_small_screen_in_the_dark(browser, page, served, photos_run, photos_copy):
    index = Index(photos_copy)
    index.update(index.ids(), vectors=index.rows(index.ids())["vector"].to_pylist()[::-1])
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{served(photos_run, photos_copy)}/#judge")
    expect(at(page, "changed")).to_contain_text("neighbours kept")
    assert at(page, "moved").count() > 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    light = page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0]
    assert int(light) < 80


def test_the_page_of_the_api_loads_nothing_from_elsewhere(page, served, photos_run):
    page.goto(f"{served(photos_run)}/docs")
    expect(page.get_by_text("/api/search").first).to_be_visible()


def _png():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((28, 28)).save(buffer, "PNG")
    return buffer.getvalue()
