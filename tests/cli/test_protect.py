"""Forgetting from the command line: a new run without the images, nothing of them in its files, and a record of it."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.search import Index


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pictures(place, count=150):
    digits = load_digits(n_class=3)
    for number, (image, label) in enumerate(zip(digits.images[:count], digits.target)):
        (place / f"of {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).resize((24, 24)).save(
            place / f"of {label}" / f"photo-{number:03}.png"
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos") / "digits"
    pictures(place)
    return place


@pytest.fixture(scope="module")
def classifier(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "classifier"
    call("classify", folder, "--out", out, "--encoder", "conv4-growing-x0.25", "--epochs", 8)
    return out


@pytest.fixture(scope="module")
def done(folder, classifier, tmp_path_factory):
    """The ids, the new run, and what the old one held before and after."""
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))[:40]
    ids = tmp_path_factory.mktemp("made") / "ids.txt"
    ids.write_text("\n".join([*paths, "", paths[0]]) + "\n")
    before = contents(classifier)
    out = tmp_path_factory.mktemp("made") / "new"
    call("protect", "forget", classifier, "--ids", ids, "--out", out, "--epochs", 5, "--set", "temperature=5.0")
    return paths, out, before, contents(classifier)


def test_the_new_run_works_and_the_old_one_is_as_it_was(folder, classifier, done, capsys):
    paths, out, before, after = done
    assert before == after
    new, old = Index(out), Index(classifier)
    assert (len(old), len(new)) == (150, 110)
    kept = new.rows(columns=["id", "path", "row", "folder"]).to_pylist()
    assert not set(paths) & {row["path"] for row in kept}
    origin = {row["path"]: row for row in old.rows(columns=["id", "path", "row", "folder"]).to_pylist()}
    assert all(origin[row["path"]] == row for row in kept)  # ids and payload stay
    model = nolabel.load(out)
    assert type(model).__name__ == "ImageClassifier"
    assert not np.array_equal(model.head_weight, 0)
    code, text, _ = run(capsys, "search", out, folder / kept[0]["path"], "--json")
    assert code == 0
    assert kept[0]["path"] in text
    assert {"report.html", "metrics.jsonl", "forgetting.html", "forgetting.json"} <= {p.name for p in out.iterdir()}
    assert not (out / "unfinished").exists()


def test_nothing_of_the_forgotten_is_in_any_file(classifier, done):
    paths, out, _, _ = done
    rows = Index(classifier).rows(columns=["path", "vector", "thumbnail"]).to_pylist()
    gone = [row for row in rows if row["path"] in paths]
    kept = [row for row in rows if row["path"] not in paths]
    assert len(gone) == 40
    files = contents(out)
    assert any("_versions" in name for name in files)
    assert len(kept[0]["thumbnail"]) > 300
    everything = b"".join(files.values())
    assert kept[0]["thumbnail"] in everything  # what stays would be found, so that what is not found is not there
    assert kept[0]["path"].encode() in everything
    for row in gone:
        assert row["thumbnail"] not in everything
        assert row["path"].encode() not in everything
        assert np.asarray(row["vector"], np.float32).tobytes() not in everything
    new = np.asarray([row["vector"] for row in Index(out).rows(columns=["vector"]).to_pylist()], np.float32)
    assert new[0].tobytes() in everything


def test_the_record(classifier, done):
    paths, out, _, _ = done
    told = json.loads((out / "forgetting.json").read_text())
    assert (told["forgotten"], told["kept"], told["model"]) == (40, 110, "ImageClassifier")
    assert told["ids sha256"] == hashlib.sha256("\n".join(paths).encode()).hexdigest()
    for name, place in (("old", classifier), ("new", out)):
        assert told[f"{name} weights sha256"] == hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    assert told["old weights sha256"] != told["new weights sha256"]
    seal = told.pop("seal sha256")
    assert seal == hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    evidence = told["evidence"]
    assert evidence["forget"]["drift"] > evidence["retain"]["drift"]
    assert set(evidence["membership"]) == {"before", "after"}
    assert "held out" in told["never learned from"]
    assert {"retain", "test"} <= set(told["accuracy"])
    assert told["accuracy"]["retain"]["before"] > 0.8
    assert any(str(classifier) in place for place in told["still there"])
    assert {"nolabel", "torch"} <= set(told["versions"])
    page = (out / "forgetting.html").read_text()
    assert "What can still be told" in page
    assert seal in page
    assert not any(path in page for path in paths)


def test_rows_of_a_run_without_classes_in_json(tmp_path, capsys):
    images = np.rint(load_digits().images[:90] * (255 / 16)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    call(
        "learn",
        tmp_path / "images.npy",
        "--out",
        tmp_path / "run",
        "--encoder",
        "conv4-growing-x0.25",
        "--size",
        16,
        "--epochs",
        1,
    )
    (tmp_path / "ids.txt").write_text("3\n17\n")
    words = ["protect", "forget", tmp_path / "run", "--ids", tmp_path / "ids.txt", "--epochs", 2, "--json"]
    capsys.readouterr()
    code, out, err = run(capsys, *words)
    assert code == 0, err
    told = json.loads(out)
    assert told["run"] == str(tmp_path / "run-forgotten")
    assert (told["forgotten"], told["kept"]) == (2, 88)
    assert "membership" not in told["evidence"]
    assert any("tells no classes" in note for note in told["notes"])
    rows = Index(tmp_path / "run-forgotten").rows(columns=["id", "row"])
    assert sorted(rows["row"].to_pylist()) == [n for n in range(90) if n not in (3, 17)]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "holds a finished forgetting" in err
    np.save(tmp_path / "other.npy", images[::-1])
    code, _, err = run(capsys, *words, "--data", tmp_path / "other.npy", "--out", tmp_path / "out")
    assert code == 2
    assert "is not what the run learned from" in err
    np.save(tmp_path / "other.npy", images[:50])
    code, _, err = run(capsys, *words, "--data", tmp_path / "other.npy", "--out", tmp_path / "out")
    assert code == 2
    assert "lacks 40 of the run's 90 images" in err
    # cut off after the training: the old weights are still in the working folder until it is gone on with
    shutil.copytree(tmp_path / "run-forgotten", tmp_path / "again")
    (tmp_path / "again" / "forgetting.json").unlink()
    (tmp_path / "again" / "unfinished").mkdir()
    code, _, err = run(capsys, *words, "--out", tmp_path / "again")
    assert code == 2
    assert "go on with --resume" in err
    code, out, err = run(capsys, *words, "--out", tmp_path / "again", "--resume")
    assert code == 0, err
    assert json.loads(out)["new weights sha256"] == told["new weights sha256"]


def test_bad_words(folder, classifier, done, tmp_path, capsys):
    before = contents(classifier)
    ids = tmp_path / "ids.txt"
    paths = done[0]

    def refused(text, *words, given=None):
        ids.write_text("\n".join(given or [paths[0]]))
        code, _, err = run(capsys, "protect", "forget", classifier, "--ids", ids, "--out", tmp_path / "out", *words)
        assert code == 2
        assert re.search(text, err), err
        assert err.count("\n") == 1
        assert not (tmp_path / "out" / "config.json").exists()

    refused(r"has no nobody.png, 9999 \(2 of 3\).*Nothing was changed", given=["nobody.png", paths[0], "9999"])
    refused("names nothing", given=["", " "])
    refused("names all 150 images", given=[str(n) for n in range(150)])
    refused("no such parameter", "--set", "learning=3")
    refused("is the run itself", "--out", classifier)
    refused("holds a finished forgetting", "--out", done[1])
    refused("neither a path here nor a known set|does not exist", "--data", "nowhere")
    ids.write_bytes(b"\xff\xfe\x00")
    code, _, err = run(capsys, "protect", "forget", classifier, "--ids", ids, "--out", tmp_path / "out")
    assert (code, "ids.txt is not a text" in err) == (2, True)
    code, _, err = run(capsys, "protect", "forget", classifier, "--ids", tmp_path / "no.txt", "--out", tmp_path / "out")
    assert (code, "--ids: there is no file" in err) == (2, True)
    ids.write_text("0")
    code, _, err = run(capsys, "protect", "forget", tmp_path / "none", "--ids", ids)
    assert code == 2
    assert "no run folder" in err
    assert contents(classifier) == before


def test_copies_of_a_forgotten_image_must_go_too(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    shutil.copy(tmp_path / "photos" / "of 0" / "photo-000.png", tmp_path / "photos" / "of 1" / "copy.png")
    call("learn", tmp_path / "photos", "--out", tmp_path / "run", "--encoder", "conv4-growing-x0.25", "--epochs", 1)
    (tmp_path / "ids.txt").write_text("of 0/photo-000.png\n")
    code, _, err = run(capsys, "protect", "forget", tmp_path / "run", "--ids", tmp_path / "ids.txt")
    assert code == 2
    assert "of 1/copy.png" in err
