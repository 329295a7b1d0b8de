"""The API of the explorer, as the page and scripts call it."""

import io
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.explorer.conftest import ODD

from nolabel.search import Index


def items(client, **params):
    answer = client.get("/api/items", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def about_of(app):
    """What a run is, once its model is read."""
    while not (about := app.get("/api/run").json())["ready"]:
        time.sleep(0.05)
    return about


def test_what_a_run_is(client, photos_run, texts_run):
    about = about_of(client(photos_run))
    assert (about["name"], about["method"], about["noun"], about["rows"]) == ("photos", "SimCLR", "images", 81)
    assert about["asks"] == {"words": False, "file": True, "item": True, "plus": False}
    assert {"name": "folder", "type": "text"} in about["columns"]
    assert about["thumbnails"]
    assert not about["texts"]
    about = about_of(client(texts_run))
    assert (about["noun"], about["modes"]) == ("texts", ["dense", "bm25", "hybrid"])
    assert about["asks"] == {"words": True, "file": False, "item": True, "plus": False}


def test_points_ids_and_colours_are_in_one_order(client, photos_run):
    app = client(photos_run)
    told = app.get("/api/map").json()
    ids = np.frombuffer(app.get("/api/map/ids").content, "<f8").astype(int)
    points = np.frombuffer(app.get("/api/map/points", params={"key": told["key"]}).content, "<f4").reshape(-1, 2)
    assert told["rows"] == len(ids) == len(points) == 81
    assert np.abs(points).max() == 1.0
    rows = Index(photos_run).rows(ids)
    names = app.get("/api/colours").json()["names"]
    assert names[:3] == ["cluster", "outlier score", "mark"]
    assert "folder" in names
    assert "path" not in names
    found = app.get("/api/colours/folder").json()
    codes = np.frombuffer(app.get("/api/colours/folder/values").content, "<u2")
    assert found["names"] == ["even", ODD]
    assert found["counts"] == [41, 40]
    assert [found["names"][code] for code in codes] == rows["folder"].to_pylist()
    scores = np.frombuffer(app.get("/api/colours/outlier score/values").content, "<f4")
    vectors = np.array(rows["vector"].to_pylist())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_allclose(scores, 1 - np.sort(cosines, axis=1)[:, -10:].mean(axis=1), atol=1e-5)


def test_items_come_by_id_by_page_and_by_order(client, photos_run):
    app = client(photos_run)
    found = items(app, ids="7,3")
    assert [item["id"] for item in found["items"]] == [7, 3]
    assert found["items"][0]["title"].endswith(".png")
    assert found["items"][0]["columns"]["folder"] in ("even", ODD)
    page = items(app, where="folder = 'even'", offset=40, limit=5)
    assert (page["total"], len(page["items"])) == (41, 1)
    by_path = items(app, order="-path", limit=3)["items"]
    paths = [item["columns"]["path"] for item in by_path]
    assert paths == sorted(paths, reverse=True)
    picture = app.get(found["items"][0]["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (28, 28)


def test_search_by_item_folds_near_duplicates_and_says_why(client, photos_run):
    app = client(photos_run)
    table = Index(photos_run).rows()
    numbers = dict(zip(table["path"].to_pylist(), table["id"].to_pylist()))
    number, copy = numbers["even/004.png"], numbers["even/copy.png"]
    found = app.post("/api/search", json={"item": number, "k": 5}).json()
    first = found["hits"][0]
    assert {first["id"], first["duplicates"][0]["id"]} == {number, copy}
    assert first["duplicates"][0]["reason"] == "cosine 1.0000"
    assert found["folded"] >= 1
    assert len(found["hits"]) + found["folded"] == 5
    whole = app.post("/api/search", json={"item": number, "k": 5, "fold": False}).json()
    assert len(whole["hits"]) == 5
    only = app.post("/api/search", json={"item": number, "k": 50, "where": "folder <> 'even'"}).json()["hits"]
    assert {hit["columns"]["folder"] for hit in only} == {ODD}


def test_search_by_a_prefix_that_was_trained(client, photos_run):
    app = client(photos_run)
    assert app.get("/api/run").json()["dims"] == [8]
    table = Index(photos_run).rows()
    z = np.array(table["vector"].to_pylist())[:, :8]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    best = np.argsort(-(z @ z[3]), kind="stable")[:5]
    asked = {"item": table["id"][3].as_py(), "dims": 8, "k": 5, "fold": False}
    hits = app.post("/api/search", json=asked).json()["hits"]
    assert {hit["id"] for hit in hits} == set(np.array(table["id"])[best].tolist())
    whole = app.post("/api/search", json=asked | {"rerank": 16, "shortlist": 20}).json()["hits"]
    assert len(whole) == 5


def test_search_by_a_picture_that_is_sent(client, photos_run):
    app = client(photos_run)
    buffer = io.BytesIO()
    pixels = (np.asarray(Image.open(io.BytesIO(app.get("/api/items/3/thumbnail").content)))).copy()
    Image.fromarray(pixels).save(buffer, "PNG")
    answer = app.post("/api/search/upload", files={"file": ("x.png", buffer.getvalue())}, data={"k": "3"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["query"].startswith("data:image/jpeg;base64,")
    assert len(answer.json()["hits"]) == 3


def test_words_find_texts_with_what_matched(client, texts_run):
    app = client(texts_run)
    found = app.post("/api/search", json={"words": "onerror", "mode": "bm25"}).json()["hits"]
    assert found[0]["text"] == "<img src=x onerror=alert(1)> is a text"
    assert found[0]["matched"][0][0] == "onerror"
    for mode in ("dense", "hybrid"):
        found = app.post("/api/search", json={"words": found[0]["text"], "mode": mode, "k": 3}).json()["hits"]
        assert len(found) == 3
    same = app.post("/api/search", json={"item": 0, "mode": "dense", "k": 9}).json()["hits"][0]["duplicates"]
    assert same[0]["reason"] == "the same text"


def test_words_are_never_a_path(client, texts_run, photos_run, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody may read this")
    answer = client(texts_run).post("/api/search", json={"words": str(secret), "mode": "bm25"})
    assert "nobody may" not in answer.text
    answer = client(photos_run).post("/api/search", json={"words": str(secret)})
    assert answer.status_code == 400
    assert "learned without texts" in answer.json()["detail"]


def test_clusters_cover_the_run(client, photos_run, texts_run):
    app = client(photos_run)
    found = app.get("/api/clusters").json()["clusters"]
    assert sum(cluster["size"] for cluster in found) == 81
    members = app.get("/api/clusters/0/items", params={"limit": 500}).json()
    assert members["total"] == found[0]["size"] == len(members["items"])
    codes = np.frombuffer(app.get("/api/colours/cluster/values").content, "<u2")
    assert (codes == 0).sum() == found[0]["size"]
    assert {item["id"] for item in found[0]["central"]} <= {item["id"] for item in members["items"]}
    named = client(texts_run).get("/api/clusters").json()["clusters"]
    assert any(cluster["words"] and cluster["name"] == ", ".join(cluster["words"]) for cluster in named)


def test_the_report_of_a_run_and_what_changed_to_another(client, photos_run, photos_copy):
    report = client(photos_run).get("/api/report").json()
    assert report["changed"] is None
    assert {"name", "value", "what", "good"} == set(report["runs"][0]["scores"][0])
    assert report["runs"][0]["spectrum"] == sorted(report["runs"][0]["spectrum"], reverse=True)
    assert sum(report["runs"][0]["spectrum"]) == pytest.approx(1, abs=1e-3)
    both = client(photos_run, photos_copy).get("/api/report").json()
    assert [run["name"] for run in both["runs"]] == ["photos", "photos"]
    assert both["changed"]["likeness"][0]["value"] == 1.0  # the same vectors
    index = Index(photos_copy)
    ids = index.ids()
    index.update(ids, vectors=np.random.default_rng(0).normal(size=(len(ids), index.dim)))
    other = client(photos_run, photos_copy).get("/api/report").json()["changed"]
    assert other["likeness"][0]["value"] < 0.5
    assert other["moved"][0]["kept"] <= other["moved"][-1]["kept"]
    assert len(other["moved"][0]["before"]) == 5


def test_the_subset_comes_as_a_file(client, photos_copy):
    app = client(photos_copy)
    app.post("/api/marks", json={"ids": [2, 5, 9], "mark": "keep", "add": ["dark"], "session": "me"})
    app.post("/api/marks", json={"ids": [5], "mark": "drop", "session": "me"})
    answer = app.get("/api/export", params={"format": "parquet", "mark": "keep"})
    assert answer.headers["content-disposition"] == 'attachment; filename="photos-keep.parquet"'
    table = pq.read_table(io.BytesIO(answer.content))
    assert table["id"].to_pylist() == [2, 9]
    assert {"path", "folder", "curated", "curated_tags"} <= set(table.column_names)
    assert not {"vector", "thumbnail"} & set(table.column_names)
    paths = app.get("/api/export", params={"format": "paths", "tag": "dark"}).text.splitlines()
    assert paths == Index(photos_copy).rows([2, 5, 9])["path"].to_pylist()
    csv = app.get("/api/export", params={"format": "csv", "where": "id < 3", "mark": "keep"}).text.splitlines()
    assert len(csv) == 2


WRONG = {
    "no such item": ("GET", "/api/items?ids=1,99999", 404, "no row 99999"),
    "no such picture": ("GET", "/api/items/99999/thumbnail", 404, "no row 99999"),
    "no such cluster": ("GET", "/api/clusters/99/items", 404, "no cluster 99"),
    "no such colour": ("GET", "/api/colours/nope", 404, "no colouring 'nope'"),
    "no such page": ("GET", "/api/nope", 404, "Not Found"),
    "wrong SQL": ("GET", "/api/items?where=nope%20=%203", 400, "the columns are id"),
    "two statements": ("GET", "/api/items?where=1=1;%20drop%20table%20x", 400, "where"),
    "no such order": ("GET", "/api/items?order=nope", 400, "order: expected id, mark or a column"),
    "too many": ("GET", "/api/items?limit=501", 422, "limit"),
    "huge id": ("GET", "/api/items/99999999999999999999/thumbnail", 422, "number"),
    "nothing to export": ("GET", "/api/export", 400, "expected a mark, a tag or a filter"),
    "climbing": ("GET", "/static/..%2f..%2fapp.py", 404, ""),
    "empty search": ("POST", "/api/search {}", 400, "expected one of words, item and a file"),
    "two searches": ("POST", '/api/search {"words": "a", "item": 1}', 400, "got words and item"),
    "words of images": ("POST", '/api/search {"words": "a cat"}', 400, "learned without texts"),
    "no such mode": ("POST", '/api/search {"item": 1, "mode": "fast"}', 400, "mode must be one of"),
    "another mode": ("POST", '/api/search {"item": 1, "mode": "bm25"}', 400, "can be searched by dense"),
    "too many dims": ("POST", '/api/search {"item": 1, "dims": 9999}', 400, "dims must lie between 1 and"),
    "plus of photos": ("POST", '/api/search {"item": 1, "plus": "blue"}', 400, "no sums of images and words"),
    "unknown field": ("POST", '/api/search {"item": 1, "path": "/etc/passwd"}', 422, "path"),
    "no JSON": ("POST", "/api/search {", 422, "JSON"),
    "wrong mark": ("POST", '/api/marks {"ids": [1], "mark": "good", "session": "a"}', 422, "mark"),
    "wrong tag": ("POST", '/api/marks {"ids": [1], "add": ["a,b"], "session": "a"}', 400, "without commas"),
    "nobody": ("POST", '/api/marks {"ids": [1], "mark": "keep", "session": "../x"}', 422, "session"),
    "marking nothing there": (
        "POST",
        '/api/marks {"ids": [99999], "mark": "keep", "session": "a"}',
        404,
        "no row 99999",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_get_a_reason(case, client, photos_run):
    method, target, status, message = WRONG[case]
    path, _, body = target.partition(" ")
    app = client(photos_run)
    headers = {"content-type": "application/json"}
    answer = app.get(path) if method == "GET" else app.post(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert message in answer.json()["detail"]
    assert "Traceback" not in answer.text


def test_uploads_are_limited_before_they_are_decoded(client, photos_run):
    app = client(photos_run)

    def sent(data):
        return app.post("/api/search/upload", files={"file": ("x.png", data)})

    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 10**6
    answer = sent(bomb.getvalue())
    assert answer.status_code == 400
    assert "more than 50 million pixels" in answer.json()["detail"]
    assert sent(b"GIF89a but no picture").status_code == 400
    assert sent(b"").status_code == 400
    good = io.BytesIO()
    Image.new("L", (64, 64)).save(good, "PNG")
    assert "damaged" in sent(good.getvalue()[:60]).json()["detail"]
    assert sent(bytes(21 * 2**20)).status_code == 413
    assert sent(bytes(30 * 2**20)).status_code == 413


def test_folders_that_are_no_runs(client, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        client(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"has no index to explore: it holds notes\.txt"):
        client(tmp_path)


def test_an_index_without_a_model_is_searched_by_items_and_words(client, tmp_path):
    index = Index.create(tmp_path / "bare", dim=4, text="text")
    index.add(np.eye(4), {"text": ["red wine", "white wine", "fast cars", "old cars"], "year": [1, 2, 3, None]})
    app = client(tmp_path / "bare")
    assert app.get("/api/run").json()["asks"] == {"words": True, "file": False, "item": True, "plus": False}
    assert app.post("/api/search", json={"words": "wine"}).json()["hits"][0]["matched"] == [
        ["wine", pytest.approx(0.6, abs=0.6)]
    ]
    assert app.post("/api/search", json={"item": 2, "mode": "dense"}).json()["hits"][0]["id"] == 2
    assert app.get("/api/items", params={"order": "-year"}).json()["items"][-1]["columns"]["year"] is None
    answer = app.get("/api/export", params={"format": "paths", "where": "id < 2"})
    assert answer.status_code == 400
    assert "no files with paths" in answer.json()["detail"]
    assert app.get("/api/report").status_code == 200


def test_another_model_than_the_one_that_made_the_index_is_not_asked(client, photos_copy, texts_run):
    shutil.copy(texts_run / "model.safetensors", photos_copy / "model.safetensors")
    app = client(photos_copy)
    assert about_of(app)["asks"] == {"words": False, "file": False, "item": True, "plus": False}
    assert app.post("/api/search", json={"item": 3, "k": 2}).json()["hits"][0]["id"] == 3
    answer = app.post("/api/search/upload", files={"file": ("x.png", b"x")})
    assert answer.status_code == 400
    assert "is not the one that made its index" in answer.json()["detail"]
