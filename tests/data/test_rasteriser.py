import colorsys

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from nolabel.data import rasteriser
from nolabel.data.meshes import box, centred, random_mesh, union
from nolabel.data.rasteriser import (
    ALBEDO,
    AMBIENT,
    DISTANCE,
    HALF_WIDTH,
    camera_axes,
    project,
    rasterise,
    render,
    shade,
)

WHITE, ABOVE = np.ones((1, 3)), np.array([[0.0, 0.0, 4.0]])


def flat(*corners, depth=1.0):
    """A triangle on the screen, all at one inverse depth."""
    return np.array([[*corner, depth] for corner in corners])


def drawn(*triangles, size=8):
    found, depth = rasterise(np.stack(triangles), np.zeros(len(triangles), int), 1, size)
    return found[0], depth[0]


def test_silhouette_of_a_triangle():
    """Pixels whose middles (0.5, 1.5, ...) lie in the right triangle below the diagonal of a 5 x 5 square."""
    found, depth = drawn(flat((0, 0), (0, 5), (5, 5), depth=0.7))
    row, column = np.mgrid[:8, :8]
    inside = (column <= row) & (row < 5)
    assert np.array_equal(found, np.where(inside, 0, -1))
    assert np.array_equal(depth, np.where(inside, 0.7, 0.0))
    other, _ = drawn(flat((0, 0), (5, 5), (0, 5)))  # the other way round
    assert np.array_equal(other, found)


def test_two_triangles_cover_a_square_without_a_gap():
    found, _ = drawn(flat((1, 1), (6.3, 1), (6.3, 6.3)), flat((1, 1), (6.3, 6.3), (1, 6.3)))
    assert (found[1:6, 1:6] >= 0).all()
    assert (found >= 0).sum() == 25  # the middle of pixel 6 lies at 6.5, outside


def test_what_lies_outside_or_has_no_area_is_not_drawn():
    found, _ = drawn(flat((-9, -9), (-1, -9), (-1, -1)), flat((9, 9), (30, 9), (9, 30)), flat((0, 0), (4, 4), (8, 8)))
    assert (found == -1).all()
    found, _ = drawn(flat((-100, -100), (300, -100), (-100, 300)))
    assert (found == 0).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_one_is_seen_whatever_the_order(order):
    """Two crossing slopes: the left half shows the one that is near on the left."""
    falling = np.array([[0, 0, 0.9], [8, 0, 0.1], [0, 16, 0.9]])
    rising = np.array([[0, 0, 0.1], [8, 0, 0.9], [0, 16, 0.1]])
    pair = [falling, rising]
    found, depth = drawn(*(pair[i] for i in order))
    assert (found[0, :4] == order.index(0)).all()
    assert (found[0, 4:] == order.index(1)).all()
    np.testing.assert_allclose(depth[0, :4], 0.9 - 0.1 * (np.arange(4) + 0.5))  # linear in the column


def test_images_do_not_mix():
    triangles = np.stack([flat((0, 0), (0, 8), (8, 0)), flat((8, 8), (0, 8), (8, 0), depth=2.0)])
    found, _ = rasterise(triangles, np.array([1, 0]), 2, 8)
    assert set(np.unique(found[0])) == {-1, 1}
    assert set(np.unique(found[1])) == {-1, 0}


def test_projection_by_hand():
    """The origin lands in the middle; a point on the camera's right at the edge of what it sees lands on the border."""
    axes = camera_axes(0.3)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    points = np.stack([np.zeros(3), axes[0] * DISTANCE * HALF_WIDTH, axes[1] * DISTANCE * HALF_WIDTH, axes[2]])
    expected = [[16, 16, 0.4], [32, 16, 0.4], [16, 0, 0.4], [16, 16, 1 / 1.5]]
    np.testing.assert_allclose(project(points, axes, 32), expected, atol=1e-12)


def test_silhouette_of_a_box_is_the_hull_of_its_corners():
    mesh = centred(box((1, 1.5, 0.7)))
    turn = Rotation.from_euler("xyz", [0.4, -0.3, 0.8]).as_matrix()
    size = 256
    image = render([mesh], turn[None], np.zeros((1, 3)), ABOVE, WHITE, size)[0]
    corners = project(mesh[0] @ turn.T, camera_axes(), size)[:, :2]
    assert (image.max(axis=-1) > 0).sum() == pytest.approx(ConvexHull(corners).volume, rel=0.03)


def picture(
    mesh, turn=None, azimuth=0.0, light=(1.0, -2.0, 3.0), colour=(1.0, 1.0, 1.0), size=48, floor=(0.1, 0.2, 0.3)
):
    turn = np.eye(3) if turn is None else turn
    fields = (np.array([floor]), np.array([light]), np.array([colour]))
    return render([mesh], turn[None], *fields, size, azimuth=azimuth)[0].astype(int)


def test_a_turned_object_looks_like_a_turned_camera():
    mesh, angle = random_mesh("chair", np.random.default_rng(0)), 0.9
    turn = Rotation.from_euler("z", angle).as_matrix()
    light = np.array([1.0, -2.0, 3.0])
    turned = picture(mesh, turn, light=light)
    walked = picture(mesh, azimuth=-angle, light=turn.T @ light)
    assert np.abs(turned - walked).max() <= 1
    assert np.abs(turned - picture(mesh, light=light)).max() > 50


def test_near_parts_hide_far_ones():
    """A plate in front of a ball of blocks hides it from this side and not from the other."""
    plate, block = box((1.6, 0.05, 1.6), (0, -0.7, 0)), box((0.4, 0.4, 0.4), (0, 0.5, 0))
    both, alone = picture(union(plate, block)), picture(plate)
    covered = np.abs(picture(plate) - picture(box((0.01, 0.01, 0.01)))).max(axis=-1) > 0
    assert np.array_equal(both[covered], alone[covered])
    behind = picture(union(plate, block), azimuth=np.pi)
    assert np.abs(behind - picture(plate, azimuth=np.pi)).max() > 10


def test_shading_by_hand():
    """Full light along the normal, cosine aslant, the white share alone from behind."""
    normals = np.array([[0, 0, 1.0], [0, 0, 1.0], [0, 0, -1.0]])
    lights = np.array([[0, 0, 4.0], [4.0, 0, 4.0], [0, 0, 4.0]])
    found = shade(normals, np.zeros((3, 3)), lights, np.array([[0.8, 0.4, 0.0]] * 3))
    full = (1 - AMBIENT) * np.array([0.8, 0.4, 0.0])
    np.testing.assert_allclose(found, [AMBIENT + full, AMBIENT + full * np.sqrt(0.5), [AMBIENT] * 3])


def test_colours_of_light_and_floor():
    plate = box((0.9, 0.9, 0.01))
    red = picture(plate, light=(0, 0, 4), colour=colorsys.hsv_to_rgb(0.0, 1.0, 0.8))
    top = 255 * ALBEDO * (AMBIENT + (1 - AMBIENT) * np.array([0.8, 0, 0]))
    assert np.abs(red[24, 24] - top).max() <= 2  # off the light's axis by a hair
    ground = 255 * np.array([0.1, 0.2, 0.3]) * (AMBIENT + (1 - AMBIENT) * np.array([0.8, 0, 0]))
    assert np.abs(red[0, 0] - ground).max() <= 0.5
    white = picture(plate, light=(0, 0, 4))
    assert np.array_equal(white[24, 24], white[24, 24, :1].repeat(3))


def test_order_of_a_faces_corners_does_not_matter():
    vertices, faces = random_mesh("torus", np.random.default_rng(0))
    flipped = np.where(np.arange(len(faces))[:, None] % 2 == 0, faces, faces[:, ::-1])
    assert np.array_equal(picture((vertices, faces)), picture((vertices, flipped)))


def test_same_alone_and_in_company(monkeypatch):
    rng = np.random.default_rng(0)
    meshes = [random_mesh(kind, rng) for kind in ("chair", "cone", "boxes", "torus", "l-shape")]
    fields = [
        Rotation.random(5, random_state=0).as_matrix(),
        rng.random((5, 3)),
        rng.random((5, 3)) + 2,
        rng.random((5, 3)),
    ]
    together = render(meshes, *fields, 24)
    assert np.array_equal(together, render(meshes, *fields, 24))
    monkeypatch.setattr(rasteriser, "_SAMPLES_AT_ONCE", 2 * (24 * rasteriser.SAMPLES) ** 2)  # two at a time
    assert np.array_equal(together, render(meshes, *fields, 24))
    alone = [render([mesh], *(field[i : i + 1] for field in fields), 24)[0] for i, mesh in enumerate(meshes)]
    assert np.array_equal(together, np.stack(alone))
