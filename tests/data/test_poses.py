import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nolabel.data import open_images, read
from nolabel.data.meshes import KINDS, box, random_mesh
from nolabel.data.poses import (
    checked_poses,
    checked_transformations,
    make_pose_views,
    pair_table,
    require_variety,
    rotated_images,
)
from nolabel.data.rasteriser import render
from nolabel.ops.quaternions import relative_pose


def column(table, name):
    return np.array(table[name][:])


# Ready-made pairs ---------------------------------------------------------------------------------------------------


def transformations(group, n, rng):
    if group == "so3":
        z = Rotation.random(n, random_state=0).as_quat(canonical=True)
        return np.column_stack([z, rng.random(n)])
    if group == "so2":
        angle = rng.uniform(-np.pi, np.pi, n)
        return np.column_stack([np.cos(angle), np.sin(angle), rng.random(n)])
    return rng.normal(size=(n, 3))


@pytest.mark.parametrize("group", ["so3", "so2", "vector"])
def test_a_pair_table_gives_its_transformations_back(group):
    rng = np.random.default_rng(0)
    X1, X2 = rng.integers(0, 256, (2, 9, 8, 8), dtype=np.uint8)
    Z = transformations(group, 9, rng)
    table = pair_table(X1, X2, Z, group)
    assert table.column_names == ["image", "object", "pose"]
    images = open_images(table).batch(np.arange(18))["image"][:, 0].numpy()
    assert np.array_equal(images, np.concatenate([X1, X2]))
    assert column(table, "object").tolist() == [*range(9), *range(9)]
    first, second = torch.from_numpy(column(table, "pose")).chunk(2)
    np.testing.assert_allclose(relative_pose(first, second, group).numpy(), Z, atol=1e-7)


X = np.zeros((3, 8, 8), np.uint8)
TURNS = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X[:, :7], TURNS, "so2"), r"X1 and X2 must have one shape, got \(3, 8, 8\) and \(3, 7, 8\)"),
        ((X, X, TURNS[:2], "so2"), "Z must have one row a pair, got 2 rows for 3 pairs"),
        ((X, X, [[1.0, 0.0]] * 3, "so2"), "all transformations are identical: .* use VICReg"),
        ((X, X, [[0, 0, 0, 1.0]] * 3, "so3"), "all transformations are identical"),
        (
            (X, X, [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], "so2"),
            r"Z: \(cosine, sine\) of row 2 has length 0.7071, expected 1",
        ),
        ((X, X, [[0.1], [0.2], [0.3]], "so2"), r"cosine and sine in every row .* got shape \(3, 1\)"),
        (
            (X, X, [[0, 0, 0, 1], [0, 0, 0, 2], [0, 1, 0, 0]], "so3"),
            "Z: the quaternion of row 1 has length 2, expected 1",
        ),
        ((X, X, [[0.0], [np.nan], [1.0]], "vector"), "Z: row 1 is not finite"),
        ((X, X, [[0.0], [np.inf], [1.0]], "vector"), "Z: row 1 is not finite"),
        ((X, X, TURNS, "se3"), "group must be one of so3, so2, vector, got 'se3'"),
        ((X, X, TURNS, "so3"), r"Z must hold 4 or more numbers a row \(group 'so3'\), got float64 of shape \(3, 2\)"),
        ((X, X, [[1.0], [1.0, 2.0], [3.0]], "vector"), "the same number of values in every row"),
        ((X, X, [["a"], ["b"], ["c"]], "vector"), "Z must hold 1 or more numbers"),
    ],
)
def test_bad_pairs(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        pair_table(*arguments)
    assert "\n" not in str(caught.value)


def test_missing_values_in_poses_are_named():
    with pytest.raises(ValueError, match="none missing"):
        checked_poses([[0.0, 1.0], None], "vector")
    assert checked_poses([1, 2], "so2").tolist() == [[1.0], [2.0]]
    assert checked_transformations([[0, 0, 0, 1]], "so3").dtype == np.float64
    with pytest.raises(ValueError, match="identical"):
        require_variety(np.zeros((0, 2)))


# Rendered solids ----------------------------------------------------------------------------------------------------


def test_pose_views_are_what_they_say():
    """Rendering the same solids again from the columns of the table gives the same pictures."""
    table = make_pose_views(9, views=4, size=24, random_state=3)
    assert column(table, "object").tolist() == np.repeat(np.arange(9), 4).tolist()
    assert table["class"][::4] == [*KINDS, *KINDS][:9]
    rng = np.random.default_rng(3)
    meshes = [random_mesh(kind, rng) for kind in table["class"][::4]]
    turns = Rotation.from_quat(column(table, "pose")).as_matrix()
    theta, phi = column(table, "light_theta"), column(table, "light_phi")
    lights = 4 * np.column_stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])

    def colour(hue, saturation, value):  # from the definition of HSV
        wheel = np.clip(np.abs((6 * hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
        return value * (1 - saturation + saturation * wheel)

    floors, colours = colour(column(table, "floor_hue"), 0.6, 0.6), colour(column(table, "light_hue"), 1.0, 0.8)
    again = render([mesh for mesh in meshes for _ in range(4)], turns, floors, lights, colours, 24)
    images = open_images(table).batch(np.arange(36))["image"].permute(0, 2, 3, 1).numpy()
    differ = np.abs(again.astype(int) - images).max(axis=-1) > 1
    assert differ.mean() < 1e-3  # a sample on an edge may fall to either side


def test_ranges_of_the_latents():
    table = make_pose_views(20, views=20, size=8)
    pose = column(table, "pose")
    np.testing.assert_allclose(np.linalg.norm(pose, axis=1), 1)
    assert (pose[:, 3] >= 0).all()
    angles = Rotation.from_quat(pose).as_euler("xyz")
    for name, low, high in (("floor_hue", 0, 1), ("light_hue", 0, 1), ("light_theta", 0, 0.25), ("light_phi", 0, 2)):
        scale = np.pi if name.startswith("light_t") or name.endswith("phi") else 1
        values = column(table, name) / scale
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert (np.abs(angles[:, 1]) <= np.pi / 2 + 1e-9).all()
    spread = Rotation.from_euler("xyz", np.random.default_rng(1).uniform(-np.pi / 2, np.pi / 2, (4000, 3))).as_quat(
        canonical=True
    )
    np.testing.assert_allclose(pose.std(axis=0), spread.std(axis=0), atol=0.05)


def test_seed_decides():
    first, same, other = (make_pose_views(3, views=2, size=16, random_state=seed) for seed in (0, 0, 1))
    assert column(first, "pose").tolist() == column(same, "pose").tolist()
    assert np.array_equal(column(first, "image"), column(same, "image"))
    assert not np.array_equal(column(first, "image"), column(other, "image"))


def test_own_meshes_and_folders(tmp_path):
    mesh = box((1, 2, 3))
    given = make_pose_views([mesh], views=2, size=16, random_state=5)
    assert given["class"][:] == ["mesh", "mesh"]
    (tmp_path / "bricks").mkdir()
    lines = [f"v {x} {y} {z}" for x, y, z in 7 * mesh[0] + 1] + [f"f {a} {b} {c}" for a, b, c in mesh[1] + 1]
    (tmp_path / "bricks" / "one.obj").write_text("\n".join(lines))
    read_back = make_pose_views(tmp_path, views=2, size=16, random_state=5)
    assert read_back["class"][:] == ["bricks", "bricks"]
    assert np.array_equal(column(read_back, "image"), column(given, "image"))  # scale and place are taken out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"objects": 0}, ValueError, "objects must be a whole number of at least 1, got 0"),
        ({"objects": 2.5}, ValueError, "objects must be a whole number"),
        ({"objects": []}, ValueError, "at least one mesh"),
        (
            {"objects": [box((1, 1, 1)), (np.zeros((2, 3)), [[0, 1, 5]])]},
            ValueError,
            "objects: mesh 1: faces must name",
        ),
        ({"objects": "nowhere/at/all"}, FileNotFoundError, "objects: no folder nowhere/at/all"),
        ({"views": 0}, ValueError, "views must be a whole number of at least 1, got 0"),
        ({"size": 3}, ValueError, "size must be a whole number of at least 4, got 3"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        make_pose_views(**arguments)


def test_a_folder_without_meshes(tmp_path):
    with pytest.raises(ValueError, match="no .obj file"):
        make_pose_views(tmp_path)


# Turned images ------------------------------------------------------------------------------------------------------


def plain(images, **options):
    return rotated_images(images, zoom=1.0, contrast=(1.0, 1.0), noise=0.0, **options)


def pixels(table):
    images = open_images(table)
    return images.batch(np.arange(len(images)))["image"][:, 0].numpy()


def test_a_turn_by_its_angle_moves_a_spot_counter_clockwise():
    image = np.zeros((1, 33, 33), np.uint8)
    image[0, 15:18, 27:30] = 255  # 12 pixels right of the middle
    table = plain(image, views=40, random_state=1)
    angle = column(table, "pose")[:, 0]
    assert angle.min() < -2
    assert angle.max() > 2
    seen = pixels(table).astype(float)
    row, column_ = np.mgrid[:33, :33] - 16
    weight = seen / seen.sum(axis=(1, 2), keepdims=True)
    x, y = (weight * column_).sum(axis=(1, 2)), -(weight * row).sum(axis=(1, 2))
    np.testing.assert_allclose(x, 12 * np.cos(angle), atol=0.3)
    np.testing.assert_allclose(y, 12 * np.sin(angle), atol=0.3)


def test_zoom_shrinks_and_the_outside_is_black():
    image = np.full((1, 32, 32), 200, np.uint8)
    table = rotated_images(image, views=10, zoom=2.0, contrast=(1.0, 1.0), noise=0.0)
    seen = pixels(table)
    np.testing.assert_allclose((seen / 200).sum(axis=(1, 2)), 256, rtol=0.02)  # a quarter of the area, however it lies
    assert (seen[:, 0] == 0).all()


def test_contrast_noise_and_size(digits):
    images = np.full((20, 16, 16), 255, np.uint8)
    seen = pixels(rotated_images(images, views=20, size=24, zoom=0.5, contrast=(0.4, 0.6), noise=0.0)) / 255
    assert seen.shape == (400, 24, 24)
    factors = seen[:, 12, 12]
    np.testing.assert_allclose(seen, np.broadcast_to(factors[:, None, None], seen.shape), atol=0.01)
    assert 0.39 < factors.min() < 0.42
    assert 0.58 < factors.max() < 0.61
    noisy = pixels(rotated_images(np.full((4, 32, 32), 128, np.uint8), zoom=0.5, contrast=(1.0, 1.0), noise=0.1)) / 255
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_objects_are_rows_of_the_images_and_unreadable_ones_have_none(digits, tmp_path):
    from PIL import Image

    for number in range(3):
        Image.fromarray(digits[0][number]).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG broken")
    with pytest.warns(UserWarning, match="1 of 3 images were skipped"):
        table = plain(tmp_path, views=2)
    assert table["object"][:] == [0, 0, 2, 2]
    colour = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    assert column(read(plain(colour, views=3)), "image").shape == (6, 12, 12, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views must be a whole number of at least 1"),
        ({"size": 2}, "size must be a whole number of at least 4"),
        ({"zoom": 0.0}, "zoom above 0"),
        ({"noise": -1.0}, "noise at least 0"),
        ({"contrast": (0.8, 0.2)}, "contrast"),
    ],
)
def test_bad_turns(options, message):
    with pytest.raises(ValueError, match=message):
        rotated_images(np.zeros((2, 8, 8), np.uint8), **options)
