import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.special import beta

from nolabel.data.meshes import (
    KINDS,
    RADIUS,
    as_mesh,
    box,
    centred,
    frustum,
    random_mesh,
    read_obj,
    superquadric,
    torus,
    union,
)


def area(mesh):
    a, b, c = (mesh[0][mesh[1][:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def volume(mesh):
    """Of a closed mesh whose faces all run the same way round."""
    a, b, c = (mesh[0][mesh[1][:, i]] for i in range(3))
    return abs((a * np.cross(b, c)).sum() / 6)


def surface(mesh, count, rng):
    """Points spread evenly over the faces."""
    a, b, c = (mesh[0][mesh[1][:, i]] for i in range(3))
    sizes = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(sizes), count, p=sizes / sizes.sum())
    u, v = np.sqrt(rng.random(count))[:, None], rng.random(count)[:, None]
    return (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]


def test_areas_and_volumes():
    cuboid = box((2, 3, 4), (5, 6, 7))
    assert area(cuboid) == pytest.approx(2 * (6 + 8 + 12))
    assert volume(cuboid) == pytest.approx(24)
    np.testing.assert_allclose(cuboid[0].mean(axis=0), (5, 6, 7))
    assert volume(frustum(0.5, 0.5, 2, sides=200)) == pytest.approx(np.pi * 0.5, rel=1e-3)
    assert volume(frustum(0.6, 0.0, 1.5, sides=200)) == pytest.approx(np.pi * 0.36 * 0.5, rel=1e-3)
    assert volume(torus(1.0, 0.3, 100, 60)) == pytest.approx(2 * np.pi**2 * 0.09, rel=5e-3)
    assert volume(superquadric((1, 2, 3), (1, 1), 100)) == pytest.approx(8 * np.pi, rel=5e-3)  # an ellipsoid
    known = 2 * 6 * 0.5 * 0.7 * beta(1.25, 0.5) * beta(0.35, 0.35)  # of a superellipsoid (Jaklic et al. 2000)
    assert volume(superquadric((1, 2, 3), (0.5, 0.7), 200)) == pytest.approx(known, rel=5e-3)


def test_union_keeps_both():
    both = union(box((1, 1, 1)), box((2, 1, 1), (9, 0, 0)))
    assert area(both) == pytest.approx(6 + 10)
    assert volume(both) == pytest.approx(3)


def test_centred_by_the_bounding_box_of_what_is_used():
    vertices, faces = box((2, 4, 4), (7, 7, 7))
    stray = np.concatenate([vertices, [[99.0, 0, 0]]])  # no face names it
    found, _ = centred((stray, faces))
    np.testing.assert_allclose(found[:8].min(axis=0), -found[:8].max(axis=0))
    np.testing.assert_allclose(np.ptp(found[:8], axis=0), np.array([2, 4, 4]) * RADIUS / 3)
    with pytest.raises(ValueError, match="no extent"):
        centred((np.ones((3, 3)), np.array([[0, 1, 2]])))


@pytest.mark.parametrize("kind", KINDS)
def test_no_rotation_brings_a_solid_onto_itself(kind):
    """A rotational symmetry would keep the centroid of the surface and permute its principal axes."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        mesh = random_mesh(kind, rng)
        points = surface(mesh, 2000, rng)
        points = points - points.mean(axis=0)
        tree = cKDTree(points)
        itself = np.mean(tree.query(surface(mesh, 500, rng) - surface(mesh, 20000, rng).mean(axis=0))[0])
        axes = np.linalg.svd(points, full_matrices=False)[2]
        candidates = [axis * angle for axis in axes for angle in (np.pi / 2, 2 * np.pi / 3, np.pi)]
        candidates += [Rotation.random(random_state=seed).as_rotvec() for seed in range(10)]
        nearest = min(np.mean(tree.query(points[:500] @ Rotation.from_rotvec(v).as_matrix().T)[0]) for v in candidates)
        assert nearest > 1.5 * itself


def test_proportions_are_random_and_the_seed_decides():
    for kind in KINDS:
        first, second, other = (random_mesh(kind, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert np.array_equal(first[0], second[0])
        assert np.abs(first[0] - other[0]).max() > 0.01
        assert np.linalg.norm(first[0], axis=1).max() == pytest.approx(RADIUS)


def test_obj_files(tmp_path):
    file = tmp_path / "roof.obj"
    file.write_text(
        "# a roof\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0 1.0\nvn 0 0 1\n\nf 1/7/1 2//1 3/2 4\nv 0.5 0.5 1\nf -1 1 -4\nusemtl red\n"
    )
    vertices, faces = read_obj(file)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1]]  # a square as a fan, and counted from the end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\n", "at least one face"),
        ("v 0 0\nf 1 1 1\n", "line 1 cannot be read: 'v 0 0'"),
        ("v 0 0 0\nf 1 0 1\n", "line 2 cannot be read"),
        ("v 0 0 0\nf 1 1\n", "line 2 cannot be read"),
        ("v 0 0 0\nf a b c\n", "line 2 cannot be read"),
        ("v 0 0 0\nf 1 2 3\n", "faces must name vertices 0 to 0, got 0 to 2"),
        ("v 0 0 nan\nf 1 1 1\n", "vertex 0 is not finite"),
    ],
)
def test_broken_obj_files(text, message, tmp_path):
    (tmp_path / "x.obj").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_obj(tmp_path / "x.obj")
    assert "x.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (3, r"mesh must be a pair \(vertices, faces\), got int"),
        ((np.zeros((4, 2)), np.zeros((1, 3), int)), r"got shapes \(4, 2\) and \(1, 3\)"),
        ((np.zeros((4, 3)), np.zeros((1, 3))), "faces must be whole row numbers of vertices, got float64"),
        ((np.zeros((4, 3)), np.array([[0, 1, 4]])), "vertices 0 to 3, got 0 to 4"),
    ],
)
def test_bad_meshes(mesh, message):
    with pytest.raises(ValueError, match=message):
        as_mesh(mesh)
    with pytest.raises(ValueError, match="kind must be one of boxes, .* got 'ball'"):
        random_mesh("ball", np.random.default_rng(0))
