import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.assess.equivariance import ranks_of_targets
from nolabel.data.poses import make_pose_views, pair_table, rotated_images
from nolabel.learn.sie import SIE, ConcatenationPredictor, DeepHypernetwork, Hypernetwork, SplitHead
from nolabel.ops.quaternions import relative_pose
from nolabel.training import Training


def tiny(steps=2, batch_size=16, random_state=0, **params):
    training = Training(
        steps=steps, batch_size=batch_size, random_state=random_state, precision="32-true", stop_on_collapse=False
    )
    settings = {"group": "so2", "projection": (16, 6), "image_size": 16, "training": training}
    return SIE("resnet10-x0.125", **{**settings, **params})


@pytest.fixture(scope="module")
def table(digits):
    """Forty digits with four turns each."""
    return rotated_images(digits[0][:40], views=4)


@pytest.fixture(scope="module")
def fitted(table):
    return tiny().fit(table)


def column(table, name):
    return np.array(table[name][:])


# The loss -----------------------------------------------------------------------------------------------------------


def test_loss_by_hand():
    """Each term written out over rows and dimensions; VICReg's weights; the gradient reaches both views."""
    learner = tiny(invariance=3.0, equivariance=0.7, variance=2.0, covariance=0.3)
    torch.manual_seed(0)
    net = learner.build({"image": torch.zeros(2, 1, 16, 16), "pose": torch.zeros(2, 1)}).eval()
    images, z = torch.rand(10, 1, 16, 16), torch.randn(5, 2)
    terms = learner.loss(net, (images, z))

    r = net.encoder(images)
    x_inv, y_inv = net.head.inv(r[:, :32]).chunk(2)
    x_equi, y_equi = net.head.equi(r[:, 32:]).chunk(2)
    moved = torch.stack([sum(z[b, a] * net.predictor.matrices[a] for a in range(2)) @ x_equi[b] for b in range(5)])
    x, y = torch.cat([x_inv, x_equi], 1), torch.cat([y_inv, y_equi], 1)

    def spread(u):
        return (
            sum(
                torch.relu(1 - torch.sqrt(((u[:, j] - u[:, j].mean()) ** 2).sum() / 4 + 1e-4))
                for j in range(u.shape[1])
            )
            / u.shape[1]
        )

    def mixed(u):
        u = u - u.mean(dim=0)
        c = [[(u[:, i] * u[:, j]).sum() / 4 for j in range(12)] for i in range(12)]
        return sum(c[i][j] ** 2 for i in range(12) for j in range(12) if i != j) / 12

    expected = {
        "invariance": 3.0 * ((x_inv - y_inv) ** 2).sum() / 30,
        "equivariance": 0.7 * 3.0 * ((moved - y_equi) ** 2).sum() / 30,
        "variance": 2.0 * (spread(x) + spread(y)) / 2,
        "covariance": 0.3 * (mixed(x) + mixed(y)),
        "predictor_variance": 2.0 * spread(moved) / 2,
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6, msg=name)
    learner.predictor_variance = False
    assert set(learner.loss(net, (images, z))) == set(expected) - {"predictor_variance"}


def test_gradient_flows_to_both_views_through_the_prediction():
    learner = tiny()
    net = learner.build({"image": torch.zeros(2, 1, 16, 16), "pose": torch.zeros(2, 1)}).eval()
    images = torch.rand(8, 1, 16, 16, requires_grad=True)
    term = learner.loss(net, (images, torch.randn(4, 2)))["equivariance"]
    slope = torch.autograd.grad(term, [images, net.head.equi[-1].weight, net.predictor.matrices], retain_graph=True)
    assert all((part.flatten(1).abs().sum(dim=1) > 0).all() for part in (slope[0], slope[2]))  # all rows, every M_a
    assert slope[1].abs().max() > 0
    other = torch.autograd.grad(term, net.head.inv[-1].weight, allow_unused=True, materialize_grads=True)
    assert other[0].abs().max() == 0


def test_the_hypernetwork_is_linear_in_z_and_has_no_bias():
    predictor = Hypernetwork(5, 3)
    x, z = torch.randn(7, 5), torch.randn(7, 3)
    assert [name for name, _ in predictor.named_parameters()] == ["matrices"]
    torch.testing.assert_close(predictor(x, 2 * z), 2 * predictor(x, z))
    torch.testing.assert_close(predictor(x, -z), -predictor(x, z))  # why quaternions need one sign
    assert predictor(x, torch.zeros(7, 3)).abs().max() == 0
    other = torch.randn(7, 3)
    torch.testing.assert_close(predictor(x, z + other), predictor(x, z) + predictor(x, other))
    with torch.no_grad():  # it contains exact turns of the plane: cos M_1 + sin M_2
        turn = Hypernetwork(2, 2)
        turn.matrices.copy_(torch.tensor([[[1.0, 0], [0, 1]], [[0, -1.0], [1, 0]]]))
    angle = torch.tensor([0.3, 2.0])
    moved = turn(torch.tensor([[1.0, 0.0]] * 2), torch.stack([angle.cos(), angle.sin()], 1))
    torch.testing.assert_close(moved, torch.stack([angle.cos(), angle.sin()], 1))


def test_the_deep_hypernetwork_by_hand():
    """Both networks written out; ReLU between layers only; no bias; without hidden layers it is the linear one."""
    torch.manual_seed(0)
    predictor = DeepHypernetwork(5, 3, (4,), (6,))
    x, z = torch.randn(7, 5), torch.randn(7, 3)
    first, second = predictor.matrices
    assert (first.shape, second.shape) == ((4, 6, 5), (4, 5, 6))
    assert not [name for name, _ in predictor.named_parameters() if "bias" in name]
    for i, moved in enumerate(predictor(x, z)):
        code = (predictor.maker[0].weight @ z[i]).clamp(min=0)
        hidden = (sum(code[a] * first[a] for a in range(4)) @ x[i]).clamp(min=0)
        torch.testing.assert_close(moved, sum(code[a] * second[a] for a in range(4)) @ hidden)
    assert predictor(x, torch.zeros(7, 3)).abs().max() == 0
    plain = DeepHypernetwork(5, 3, (), ())
    linear = Hypernetwork(5, 3)
    with torch.no_grad():
        linear.matrices.copy_(plain.matrices[0])
    torch.testing.assert_close(plain(x, z), linear(x, z))


@pytest.mark.parametrize("widths", [((), ()), ((64, 64), ()), ((64,), (64,))])
def test_hypernetworks_begin_with_predictions_as_long_as_the_embeddings(widths):
    torch.manual_seed(0)
    x, z = torch.randn(200, 64), torch.nn.functional.normalize(torch.randn(200, 2), dim=1)
    moved = DeepHypernetwork(64, 2, *widths)(x, z)
    assert 0.7 < float((moved.norm(dim=1).mean() / x.norm(dim=1).mean()).detach()) < 1.4


def test_the_deep_hypernetwork_learns_what_no_linear_one_can():
    """One matrix that depends on z through |z_1|: a linear W(z) is of no use there, for it is odd."""
    torch.manual_seed(0)
    x, z = torch.randn(256, 4), torch.randn(256, 2)
    target = z[:, :1].abs() * x.flip(1)
    errors = {}
    for name, predictor in (("linear", Hypernetwork(4, 2)), ("deep", DeepHypernetwork(4, 2, (16,), ()))):
        optimiser = torch.optim.Adam(predictor.parameters(), 2e-2)
        for _ in range(150):
            optimiser.zero_grad()
            loss = (predictor(x, z) - target).square().mean()
            loss.backward()
            optimiser.step()
        errors[name] = float(loss.detach())
    assert errors["linear"] > 0.5 * float(target.square().mean())
    assert errors["deep"] < 0.1 * errors["linear"]


def test_the_perceptron_can_pass_z_by():
    predictor = ConcatenationPredictor(5, 3).eval()
    with torch.no_grad():
        predictor.layers[0].weight[:, 5:] = 0
    x = torch.randn(7, 5)
    torch.testing.assert_close(predictor(x, torch.randn(7, 3)), predictor(x, torch.randn(7, 3)))


def test_halves_of_the_head_see_their_own_half():
    head = SplitHead((4, 6), 8, 3).eval()
    r = torch.randn(5, 10)
    changed = r.clone()
    changed[:, 4:] += 1
    assert torch.equal(head(changed)[:, :3], head(r)[:, :3])
    assert (head(changed)[:, 3:] - head(r)[:, 3:]).abs().max() > 1e-3
    assert head.inv[-1].bias is None
    assert head.equi[-1].bias is None


# Pairs --------------------------------------------------------------------------------------------------------------


def steps_of(learner):
    """What `loss` is given, step by step."""
    seen, usual = [], learner.views

    def views(batch, generator):
        seen.append((batch, usual(batch, generator)))
        return seen[-1][1]

    learner.views = views
    return seen


def test_batches_hold_first_views_then_second_ones_of_the_same_objects(table):
    learner = tiny(steps=11)
    seen = steps_of(learner)
    learner.fit(table)
    for batch, (images, z) in seen:
        first, second = batch["object"].chunk(2)
        assert torch.equal(first, second)
        assert len(first) == 16
        assert torch.equal(images, batch["image"] / 255.0)
        assert z.dtype == torch.float32
        angle = batch["pose"][:, 0]
        expected = torch.stack([(angle[16:] - angle[:16]).cos(), (angle[16:] - angle[:16]).sin()], 1)
        torch.testing.assert_close(z, expected.float())
    epochs = [np.concatenate([batch["pose"].numpy() for batch, _ in seen[5 * e : 5 * e + 5]]) for e in (0, 1)]
    for poses in epochs:  # 80 pairs make five batches: every view once
        assert sorted(poses.ravel()) == sorted(column(table, "pose").ravel())
    met = [
        {frozenset((a, b)) for batch, _ in seen[5 * e : 5 * e + 5] for a, b in batch["pose"].reshape(2, -1).T.tolist()}
        for e in (0, 1)
    ]
    assert 0 < len(met[0] & met[1]) < 60  # paired afresh


def test_devices_get_whole_pairs(table):
    learner = tiny()
    learner.training_ = Training(devices=2, batch_size=16).resolve(learner.recipe)
    source = learner.open(table, None)
    objects = column(table, "object")
    for rows in learner.plan(source, 16, np.random.default_rng(0)):
        for share in np.array_split(rows, 2):
            first, second = np.split(objects[share], 2)
            assert np.array_equal(first, second)


@pytest.mark.parametrize(("views", "rows"), [(2, 20), (3, 30), (5, 50)])
def test_odd_numbers_of_views(views, rows, digits):
    """The default batch fits the pairs, not the rows."""
    learner = tiny(steps=1, batch_size=None)
    seen = steps_of(learner)
    learner.fit(rotated_images(digits[0][:10], views=views))
    assert len(seen[0][0]["object"]) <= 2 * 10 * (views // 2)


def test_rotations_in_space_and_further_numbers():
    table = make_pose_views(8, views=4, size=16)
    pose = np.column_stack([column(table, "pose"), column(table, "floor_hue"), column(table, "light_hue")])
    images, names = column(table, "image").astype(np.uint8), [f"solid {i}" for i in table["object"]]
    learner = tiny(steps=2, batch_size=8, group="so3")
    seen = steps_of(learner)
    learner.fit({"image": images, "object": names, "pose": pose})
    batch, (_, z) = seen[0]
    torch.testing.assert_close(z, relative_pose(*batch["pose"].chunk(2), "so3").float())
    assert z.shape == (8, 6)
    assert (z[:, 3] >= 0).all()
    assert learner.net_.predictor.matrices.shape == (6, 6, 6)
    e = learner.transform(images, part="equi", layer="embedding")
    flipped = pose[:32].copy()
    flipped[:, :4] *= -1
    np.testing.assert_allclose(learner.predict_equi(e, pose), learner.predict_equi(e, flipped), atol=1e-6)


def test_pairs_and_plain_numbers(digits):
    rng = np.random.default_rng(0)
    X1, X2 = digits[0][:20], digits[0][20:40]
    learner = tiny(group="vector", batch_size=8).fit(pair_table(X1, X2, rng.normal(size=(20, 3)), "vector"))
    assert learner.net_.predictor.matrices.shape[0] == 3
    Z = rng.normal(size=(20, 3))
    table = pair_table(X1, X2, Z, "vector")
    pairs = tiny(group="vector", batch_size=8).fit((X1, X2), Z)  # the same, without the table
    assert np.array_equal(pairs.transform(X1), tiny(group="vector", batch_size=8).fit(table).transform(X1))
    with pytest.raises(ValueError, match=r"y must hold the transformation of each pair \(X1, X2\), got None"):
        tiny(group="vector").fit((X1, X2))
    with pytest.raises(ValueError, match=r"a table of views or a pair of arrays \(X1, X2\), got 3 of them"):
        tiny(group="vector").fit((X1, X2, X2), Z)
    with pytest.raises(ValueError, match="Z must have one row a pair, got 19 rows for 20 pairs"):
        tiny(group="vector").fit((X1, X2), Z[:19])
    table = {"image": digits[0][:40], "object": np.repeat(np.arange(20), 2), "pose": rng.normal(size=40)}
    assert tiny(batch_size=8).fit(table).net_.predictor.matrices.shape[0] == 2  # a column of bare angles


# What it is used for ------------------------------------------------------------------------------------------------


def test_parts_of_the_representation(fitted, table, digits):
    assert fitted.split_ == (32, 32)
    for layer, border in (("representation", 32), ("embedding", 6)):
        whole = fitted.transform(table, layer=layer)
        assert np.array_equal(fitted.transform(table, part="inv", layer=layer), whole[:, :border])
        assert np.array_equal(fitted.transform(table, part="equi", layer=layer), whole[:, border:])
        assert whole.dtype == np.float32
    assert fitted.transform(digits[0][:3], layer="stage2", pool=2).shape == (3, 64)  # bare images, without poses
    assert tiny(equi_fraction=0.25).fit(table).split_ == (48, 16)
    with pytest.raises(ValueError, match="part must be one of all, inv, equi, got 'pose'"):
        fitted.transform(table, part="pose")
    with pytest.raises(ValueError, match="part must be all for layer='stage2', which is not split, got 'inv'"):
        fitted.transform(table, part="inv", layer="stage2")


def test_predictions_by_hand(fitted, table):
    e = fitted.transform(table, part="equi", layer="embedding")
    angle = np.linspace(-3, 3, len(e))
    Z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    M = fitted.net_.predictor.matrices.detach().numpy()
    expected = np.stack([(z[0] * M[0] + z[1] * M[1]) @ row for z, row in zip(Z, e)])
    found = fitted.predict_equi(e, Z)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for E, z, message in (
        (e[:, :5], Z, r"E and Z must have shapes \(n, 6\) and \(n, 2\), got \(160, 5\) and \(160, 2\)"),
        (e, Z[:9], r"got \(160, 6\) and \(9, 2\)"),
        (e, np.column_stack([Z, Z]), r"got \(160, 6\) and \(160, 4\)"),
        (e, 2 * Z, r"\(cosine, sine\) of row 0 has length 2, expected 1"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict_equi(E, z)


def test_saved_and_loaded(fitted, table, tmp_path):
    loaded = nolabel.load(fitted.save(tmp_path))
    assert loaded.split_ == fitted.split_
    assert np.array_equal(loaded.transform(table), fitted.transform(table))
    e = fitted.transform(table, part="equi", layer="embedding")
    Z = np.tile([[0.6, 0.8]], (len(e), 1))
    assert np.array_equal(loaded.predict_equi(e, Z), fitted.predict_equi(e, Z))
    mlp = tiny(predictor="mlp").fit(table)
    again = nolabel.load(mlp.save(tmp_path / "mlp"))
    assert np.array_equal(again.predict_equi(e, Z), mlp.predict_equi(e, Z))
    deep = tiny(predictor="deep_hypernetwork", maker_widths=(8,), made_widths=(12,)).fit(table)
    again = nolabel.load(deep.save(tmp_path / "deep"))
    assert np.array_equal(again.predict_equi(e, Z), deep.predict_equi(e, Z))
    assert [tuple(m.shape) for m in again.net_.predictor.matrices] == [(8, 12, 6), (8, 6, 12)]


def test_seed_clone_and_names_of_objects(fitted, table):
    assert np.array_equal(clone(fitted).fit(table).transform(table), fitted.transform(table))
    assert not np.array_equal(tiny(random_state=1).fit(table).transform(table), fitted.transform(table))
    named = table.remove_columns("object").add_column("id", [f"{i:03d}" for i in table["object"]])
    same = tiny().fit(named, columns={"object": "id"})
    assert np.array_equal(same.transform(table), fitted.transform(table))


def test_before_fit(table):
    with pytest.raises(NotFittedError):
        tiny().transform(table)
    with pytest.raises(NotFittedError):
        tiny().predict_equi(np.ones((1, 6)), [[1.0, 0.0]])


def test_it_learns(digits):
    """Given one view of an unseen digit and the angle, the predictor finds the right one of six far above chance."""
    train, unseen = (
        rotated_images(digits[0][:300], views=6),
        rotated_images(digits[0][400:500], views=6, random_state=1),
    )
    training = Training(steps=50, batch_size=128, lr=3e-3, precision="32-true")
    learner = tiny(projection=(64, 32), training=training).fit(train)
    e = learner.transform(unseen, part="equi", layer="embedding").reshape(100, 6, -1)
    angle = column(unseen, "pose").reshape(100, 6)
    turned = (angle[:, 1:] - angle[:, :1]).ravel()
    Z = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    first = np.repeat(e[:, 0], 5, axis=0)

    def mrr(Z):
        predicted = learner.predict_equi(first, Z).reshape(100, 5, -1)
        return np.mean([1 / ranks_of_targets(p, c, target=1) for p, c in zip(predicted, e)])

    assert mrr(Z) > 0.53  # chance is 0.41
    assert mrr(Z * [1, -1]) < mrr(Z) - 0.1  # the other way round it misses


# Bad input ----------------------------------------------------------------------------------------------------------


def change(table, **columns):
    made = {name: column(table, name) for name in table.column_names}
    made["image"] = made["image"].astype(np.uint8)
    return {**made, **columns}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"equi_fraction": 0.0}, "equi_fraction must lie between 0 and 1, got 0.0"),
        ({"equi_fraction": 1.0}, "equi_fraction must lie between 0 and 1, got 1.0"),
        ({"equi_fraction": 0.001}, "equi_fraction=0.001 leaves one half of 64 numbers empty"),
        ({"predictor": "deep"}, "predictor must be one of hypernetwork, deep_hypernetwork, mlp, got 'deep'"),
        ({"maker_widths": 8}, "maker_widths must be a tuple of whole numbers of at least 1, got 8"),
        ({"made_widths": (0,)}, r"made_widths must be a tuple of whole numbers of at least 1, got \(0,\)"),
        ({"group": "se3"}, "group must be one of so3, so2, vector, got 'se3'"),
        ({"group": "so3"}, r"pose must hold 4 or more numbers a row \(group 'so3'\), got float64 of shape \(160, 1\)"),
        ({"covariance": -1.0}, "must be 0 or above, got 10.0, 0.45, 10.0, -1.0"),
        ({"batch_size": 1}, r"training.batch_size must be at least 2 pairs \(variance needs two\), got 1"),
        ({"batch_size": 81}, "training.batch_size counts pairs: at most the 80 of the data .* got 81"),
    ],
)
def test_bad_parameters(params, message, table):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(**params).fit(table)
    assert "\n" not in str(caught.value)


BAD_TABLES = {
    "no pose": (lambda t: {k: v for k, v in change(t).items() if k != "pose"}, "no column 'pose'; the columns are"),
    "no object": (lambda t: {k: v for k, v in change(t).items() if k != "object"}, "no column 'object'"),
    "bare images": (lambda t: change(t)["image"], "no column 'object'"),
    "one pose": (lambda t: change(t, pose=np.zeros((160, 1))), "all transformations are identical: .* use VICReg"),
    "all alone": (lambda t: change(t, object=np.arange(160)), "at least 2 pairs of rows .* got 0 in 160 rows"),
    "one pair": (lambda t: change(t, object=np.minimum(np.arange(160), 158)), "at least 2 pairs of rows .* got 1"),
    "NaN": (lambda t: change(t, pose=[0.5] * 9 + [None] + [0.1] * 150), "pose: row 9 is not finite"),
    "infinite": (lambda t: change(t, pose=np.full((160, 1), np.inf)), "pose: row 0 is not finite"),
    "ragged": (lambda t: change(t, pose=[[0.5]] * 159 + [[0.1, 0.2]]), "the same number of values in every row"),
    "texts": (lambda t: change(t, pose=["left"] * 160), "pose must hold 1 or more numbers"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(case, table):
    build, message = BAD_TABLES[case]
    with pytest.raises(ValueError, match=message) as caught:
        tiny().fit(build(table))
    assert "\n" not in str(caught.value)


def test_the_same_turn_for_every_pair_is_refused(digits):
    pose = np.tile([[0.0], [0.7]], (20, 1)) + np.repeat(np.arange(20), 2)[:, None]
    table = {"image": digits[0][:40], "object": np.repeat(np.arange(20), 2), "pose": pose}
    with pytest.raises(ValueError, match="all transformations are identical"):
        tiny(batch_size=8).fit(table)


def test_quaternions_that_are_none():
    table = make_pose_views(8, views=2, size=16)
    pose = column(table, "pose")
    pose[5] *= 1.1
    with pytest.raises(ValueError, match="pose: the quaternion of row 5 has length 1.1, expected 1"):
        tiny(group="so3", batch_size=4).fit(change(table, pose=pose))


def test_objects_seen_once_are_counted(table):
    objects = column(table, "object")
    objects[:4] = [900, 901, 902, 903]
    with pytest.warns(UserWarning, match="4 of 43 objects have one view only"):
        tiny().fit(change(table, object=objects))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny().fit(table)
