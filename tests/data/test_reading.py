import subprocess
import sys

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Array3D, Dataset, DatasetDict, Image
from PIL import Image as PillowImage

from nolabel.data import open_images, read


@pytest.fixture
def folder(tmp_path, pixels):
    root = tmp_path / "photos"
    root.mkdir()
    for row, image in enumerate(pixels):
        PillowImage.fromarray(image).save(root / f"{row:02}.png")
    return root


def opened(source, **columns):
    return open_images(read(source, columns=columns or None))


def expect(cache, pixels):
    np.testing.assert_array_equal(cache.images(range(len(cache))), pixels)
    np.testing.assert_array_equal(cache.rows, np.arange(len(pixels)))


def test_every_kind_of_source_gives_the_same_batches(folder, pixels, tmp_path):
    files = sorted(folder.iterdir())
    encoded = [file.read_bytes() for file in files]
    np.save(tmp_path / "images.npy", pixels)
    np.savez(tmp_path / "images.npz", x=pixels, y=np.arange(10))
    pq.write_table(pa.table({"image": encoded, "label": range(10)}), tmp_path / "images.parquet")
    pandas.DataFrame({"image": [f"photos/{file.name}" for file in files]}).to_csv(tmp_path / "list.csv", index=False)
    lines = "".join(f'{{"image": "photos/{file.name}"}}\n' for file in files)
    (tmp_path / "list.jsonl").write_text(lines)
    sources = [
        folder,
        str(folder),
        tmp_path / "images.npy",
        tmp_path / "images.npz",
        tmp_path / "images.parquet",
        tmp_path / "list.csv",
        tmp_path / "list.jsonl",
        pixels,
        pixels.transpose(0, 3, 1, 2),
        pixels / 255,
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255,
        list(pixels),
        [torch.from_numpy(image).permute(2, 0, 1) for image in pixels],
        [PillowImage.fromarray(image) for image in pixels],
        [PillowImage.open(file) for file in files],
        files,
        [str(file) for file in files],
        {"image": pixels, "label": np.arange(10)},
        pandas.DataFrame({"image": encoded}),
        pandas.DataFrame({"image": list(pixels)}),
        pa.table({"image": encoded}),
        Dataset.from_dict({"image": encoded}),
        Dataset.from_dict({"image": [str(file) for file in files]}).cast_column("image", Image()),
    ]
    for source in sources:
        expect(opened(source), pixels)


def test_a_selection_of_a_dataset_keeps_its_order(pixels):
    order = [7, 2, 2, 9]
    expect(opened(read(pixels).select(order)), pixels[order])


def test_folder_columns(folder, tmp_path):
    table = read(folder)
    assert table.column_names == ["image", "path"]
    assert table["path"][:2] == ["00.png", "01.png"]
    assert table.features["image"] == Image(decode=False)
    (tmp_path / "classes" / "cat" / "small").mkdir(parents=True)
    for name in ("top.png", "cat/a.png", "cat/small/b.png"):
        PillowImage.new("L", (4, 4)).save(tmp_path / "classes" / name)
    table = read(tmp_path / "classes")
    assert table.column_names == ["image", "path", "folder"]
    assert table[:]["path"] == ["cat/a.png", "cat/small/b.png", "top.png"]
    assert table[:]["folder"] == ["cat", "cat/small", ""]


def test_one_image_file(folder, pixels):
    table = read(folder / "03.png")
    assert table["path"][:] == ["03.png"]
    expect(open_images(table), pixels[3:4])


def test_arrays_become_typed_columns_without_a_copy(pixels):
    table = read(pixels)
    assert table.features["image"] == Array3D(shape=(12, 12, 3), dtype="uint8")
    values = table.data.column("image").chunk(0).storage.flatten().flatten().flatten()
    assert np.shares_memory(values.to_numpy(), pixels)


def test_a_matrix_is_a_column_of_vectors():
    matrix = np.arange(6.0).reshape(3, 2)
    table = read(matrix)
    assert table["vector"][:] == matrix.tolist()
    with pytest.raises(ValueError, match="NaN in row 1"):
        read(np.array([[1.0], [np.nan]]))


def test_images_of_several_sizes(pixels):
    images = [pixels[0], pixels[1][:6], pixels[2][..., 0]]
    cache = open_images(read(images), size=6, channels=3)
    expected = np.asarray(PillowImage.fromarray(pixels[1][:6]).crop((3, 0, 9, 6)))
    np.testing.assert_array_equal(cache.images([1])[0], expected)
    assert len(cache) == 3


def test_half_precision_tensors():
    images = torch.tensor([0.0, 0.5, 1.0], dtype=torch.bfloat16).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert open_images(read(images)).images([0, 1, 2])[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_a_pillow_image_that_was_changed_is_taken_as_it_is(folder, pixels):
    opened_file = PillowImage.open(folder / "00.png")
    opened_file.paste((1, 2, 3), (0, 0, 12, 12))
    np.testing.assert_array_equal(opened([opened_file]).images([0])[0], np.full((12, 12, 3), [1, 2, 3]))


def test_a_damaged_pillow_image_is_skipped_not_fatal(folder):
    damaged = folder / "00.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    images = [PillowImage.open(damaged), PillowImage.open(folder / "01.png")]
    with pytest.warns(UserWarning, match="1 of 2 images"):
        cache = open_images(read(images))
    assert cache.rows.tolist() == [1]


def test_texts():
    assert read(["one", "two"])["text"][:] == ["one", "two"]


def test_columns_are_mapped_and_the_others_stay(pixels):
    source = {"photo": pixels, "alt": list("abcdefghij"), "text": ["old"] * 10, "label": np.arange(10)}
    table = read(source, columns={"image": "photo", "text": "alt"})
    assert sorted(table.column_names) == ["image", "label", "text"]
    assert table["text"][:3] == ["a", "b", "c"]
    assert read(source, columns={"text": "text"}).column_names == list(source)


def test_columns_may_be_swapped():
    table = read({"a": [1], "b": [2]}, columns={"a": "b", "b": "a"})
    assert table[0] == {"a": 2, "b": 1}


def test_missing_column_lists_what_there_is(pixels):
    with pytest.raises(ValueError, match=r"no column 'lable'; the columns are image, label \(did you mean 'label'\?\)"):
        read({"image": pixels, "label": np.arange(10)}, columns={"target": "lable"})
    with pytest.raises(ValueError, match="one column under two names"):
        read({"a": [1]}, columns={"x": "a", "y": "a"})


def test_missing_paths(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="1 of 2 paths do not exist"):
        read([folder / "00.png", folder / "99.png"])


def test_empty_folder_says_what_was_looked_for_and_found(tmp_path):
    for name in ("a.log", "b.log", "c.heic"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=r"\.jpg .*found 2 \.log, 1 \.heic"):
        read(tmp_path)


def test_links_out_of_the_folder_are_counted(folder, tmp_path, pixels):
    outside = tmp_path / "outside.png"
    PillowImage.new("L", (4, 4)).save(outside)
    (folder / "link.png").symlink_to(outside)
    with pytest.warns(UserWarning, match=r"left out 1 links .* first link.png"):
        table = read(folder)
    assert len(table) == len(pixels)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.parquet", b"not parquet"),
        ("x.csv", b""),
        ("x.jsonl", b"{nonsense"),
        ("x.npy", b"not an array"),
        ("x.npz", b"PK\x03\x04broken"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read as") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "x.npy")


def test_npz_of_different_lengths(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 2, 2), np.uint8), b=np.zeros(4))
    with pytest.raises(ValueError, match=r"one length, got \{'a': 3, 'b': 4\}"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("source", [[], np.zeros((0, 4, 4), np.uint8), pa.table({"a": pa.array([], pa.int64())})])
def test_empty_sources(source):
    with pytest.raises(ValueError, match=r"empty|no pixels|no rows"):
        read(source)


@pytest.mark.parametrize(("source", "message"), [(3, "got int"), ([1, 2], "got int"), (["a", 1], "got int, str")])
def test_sources_of_another_kind(source, message):
    with pytest.raises(TypeError, match=message):
        read(source)


def test_a_dict_of_splits_asks_for_one(pixels):
    with pytest.raises(TypeError, match="choose a split: train, test"):
        read(DatasetDict(train=read(pixels), test=read(pixels)))


def test_unknown_ending(tmp_path):
    (tmp_path / "x.xyz").write_text("x")
    with pytest.raises(ValueError, match=r"ends in '.xyz'; expected .*\.parquet"):
        read(tmp_path / "x.xyz")


def test_the_package_is_light():
    code = "import sys, nolabel.data; print(sorted({'datasets', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
