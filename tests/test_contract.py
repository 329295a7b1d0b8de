"""One battery for every public estimator of `nolabel.learn`, found by inspection."""

import inspect
import json
import shutil
import socket
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel import learn
from nolabel.encoders.conv4 import Conv4
from nolabel.learn import DenoisingAutoencoder
from nolabel.training import CollapseWarning, Estimator, Learner, Training

LEARNERS = [getattr(learn, name) for name in sorted(learn.__all__)]
SYSTEMS = [cls for cls in LEARNERS if getattr(cls, "columns", ()) == ("image",) and not cls.parts]
# A task for maps refuses those that end in a single place.
FINE = {
    "BECLR": {"clusters": 4, "memory_scale": 8},
    "OBoW": {"words": 16, "levels": ("stage1",)},
    "PixPro": {"encoder": "resnet8-x0.125-map4"},
}
WITH_ENCODER = [cls for cls in SYSTEMS if "encoder" in cls._get_param_names()]

pytestmark = [
    pytest.mark.filterwarnings("ignore:orientation carries no signal"),
    pytest.mark.filterwarnings("ignore:the memory of 32 rows was not filled"),
]


def training(**settings):
    return Training(**{"steps": 2, "batch_size": 16, **settings})


def make(cls, **params):
    """The smallest network and run that a system's arguments allow."""
    tiny = {
        "encoder": "resnet10-x0.125",
        "image_size": 16,
        "prototypes": 8,
        "projection": (16, 8),
        "features": DenoisingAutoencoder(image_size=16, training=training()),
        "training": training(),
    }
    known = {k: v for k, v in tiny.items() if k in cls._get_param_names()}
    return cls(**{**known, **FINE.get(cls.__name__, {}), **params})


def flat(obj):
    """Parameters in a form that compares by value, nested estimators included."""
    if hasattr(obj, "get_params"):
        return type(obj), {k: flat(v) for k, v in obj.get_params(deep=False).items()}
    return obj


def one_line(caught):
    assert "\n" not in str(caught.value), str(caught.value)
    assert len(str(caught.value)) > 15


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args):
        raise AssertionError("a system asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:72]


@pytest.fixture(scope="module")
def fitted(images):
    """Each system fitted once; tests only read them."""
    made = {}

    def get(cls):
        if cls not in made:
            made[cls] = make(cls).fit(images)
        return made[cls]

    return get


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    """The folder of a saved system, to be copied and damaged."""
    made = {}

    def get(cls):
        if cls not in made:
            made[cls] = fitted(cls).save(tmp_path_factory.mktemp("saved") / cls.__name__)
        return made[cls]

    return get


def test_everything_public_is_an_image_estimator():
    assert len(SYSTEMS) >= 7
    for cls in SYSTEMS:
        assert issubclass(cls, Estimator)
        assert issubclass(cls, Learner)
        assert cls.columns == ("image",)
        assert cls.__module__.startswith("nolabel.learn.")
        assert cls.__doc__
        assert "Examples" in cls.__doc__


@pytest.mark.parametrize("cls", SYSTEMS)
def test_constructor_only_stores(cls):
    names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    marks = {name: object() for name in names}
    made = cls(**marks)
    assert vars(made) == marks
    assert set(cls().get_params(deep=False)) == set(names)
    positional = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional in ([], ["encoder"])  # all others are keyword-only


@pytest.mark.parametrize("cls", SYSTEMS)
def test_params_and_clone(cls):
    bare = cls()
    assert bare.training is None
    bare.set_params(training__epochs=7, image_size=48)
    assert (bare.training.epochs, bare.training.lr, bare.image_size) == (7, None, 48)
    assert bare.get_params()["training__epochs"] == 7
    copy = clone(bare)
    assert copy is not bare
    assert copy.training is not bare.training
    assert flat(copy) == flat(bare)
    copy.set_params(training__epochs=9)
    assert bare.training.epochs == 7
    with pytest.raises(ValueError, match="Invalid parameter 'epochs'"):
        bare.set_params(epochs=3)
    with pytest.raises(ValueError, match="Invalid parameter 'eposch'"):
        bare.set_params(training__eposch=3)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_seed_decides_and_global_state_stays(cls, images, fitted):
    torch.manual_seed(123)
    np.random.seed(123)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = make(cls).fit(images)
    z = again.transform(images)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    assert np.array_equal(z, fitted(cls).transform(images))
    assert np.array_equal(z, again.fit(images).transform(images))  # fitted twice
    for name, weight in again.net_.state_dict().items():
        assert torch.equal(weight, fitted(cls).net_.state_dict()[name]), name
    other = make(cls, training=training(random_state=1)).fit(images).transform(images)
    random = any(True for _ in again.net_.parameters())  # raw pixels have no weights
    assert np.array_equal(z, other) is not random


@pytest.mark.parametrize("cls", SYSTEMS)
def test_every_row_is_its_own(cls, images, fitted):
    """Order and company do not matter, and a row more or less changes no other."""
    z = fitted(cls).transform(images)
    order = np.random.default_rng(1).permutation(len(images))
    np.testing.assert_allclose(fitted(cls).transform(images[order]), z[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted(cls).transform(images[5:6]), z[5:6], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_save_and_load(cls, images, fitted, saved):
    folder = saved(cls)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    for loaded in (nolabel.load(folder), cls.load(folder)):
        assert type(loaded) is cls
        assert flat(loaded) == flat(fitted(cls))
        assert np.array_equal(loaded.transform(images), fitted(cls).transform(images))
        assert loaded.health_ == fitted(cls).health_
        assert loaded.history_ == fitted(cls).history_
        assert not loaded.net_.training
    learned = {k: v for k, v in vars(fitted(cls)).items() if k.endswith("_") and k != "net_"}
    assert set(learned) == {k for k in vars(loaded) if k.endswith("_") and k != "net_"}
    for name, value in learned.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(getattr(loaded, name), value), name


def _edit(change):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def _encoded(value, *keys):
    for key in keys:
        value = value["dict"][key]
    return value


def _cut(name, keep):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def _garble(folder):
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\xff" * size)


DAMAGES = {
    "no model": (lambda folder: (folder / "model.safetensors").unlink(), "half-written: model.safetensors is missing"),
    "half a model": (_cut("model.safetensors", 0.5), "half-written: model.safetensors has"),
    "noise for a model": (_garble, "damaged"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "not a finished run folder"),
    "half a config": (_cut("config.json", 0.5), "damaged"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[1]"), "damaged"),
    "no class": (_edit(lambda c: c.pop("class")), "lacks class"),
    "class is a number": (_edit(lambda c: c.update({"class": 3})), "lacks class"),
    "newer": (_edit(lambda c: c.update(format=99, versions={"nolabel": "9.9"})), r"format 99 \(nolabel 9.9\).*upgrade"),
    "from outside": (_edit(lambda c: c.update({"class": "os.Popen"})), "from outside nolabel"),
    "like ours": (_edit(lambda c: c.update({"class": "nolabelling.learn.SimCLR"})), "from outside nolabel"),
    "gone": (_edit(lambda c: c.update({"class": "nolabel.learn.simclr.Gone"})), "lacks"),
    "gone module": (_edit(lambda c: c.update({"class": "nolabel.gone.Gone"})), "lacks"),
    "a function": (_edit(lambda c: c.update({"class": "nolabel.training.estimator.load"})), "not an estimator"),
    "foreign inside": (
        _edit(lambda c: c["params"].update(training={"class": "subprocess.Popen", "params": {"args": "true"}})),
        "only classes of nolabel and scikit-learn",
    ),
    "function inside": (
        _edit(lambda c: c["params"].update(training={"class": "sklearn.base.clone", "params": {}})),
        "neither an estimator nor a record",
    ),
    "missing module inside": (
        _edit(lambda c: c["params"].update(training={"class": "sklearn.gone.Gone", "params": {}})),
        "damaged or of another version",
    ),
    "missing tensor": (_edit(lambda c: c["learned"].update(x_={"tensor": "gone"})), "damaged or of another version"),
    "unknown parameter": (_edit(lambda c: c["params"].update(colour=3)), "damaged or of another version.*colour"),
    "up and out": (_edit(lambda c: c["learned"].update(x_={"estimator": "../other"})), "leaves the folder"),
    "the folder above": (_edit(lambda c: c["learned"].update(x_={"estimator": ".."})), "leaves the folder"),
    "an absolute path": (_edit(lambda c: c["learned"].update(x_={"estimator": "/tmp"})), "leaves the folder"),
    "weights of another shape": (
        _edit(lambda c: _encoded(c["learned"]["example_"], "batch", "image")["dict"].update(shape=[2, 3, 32, 32])),
        "do not fit",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("cls", SYSTEMS)
def test_damaged_folders(cls, damage, saved, tmp_path):
    if damage == "weights of another shape" and cls is learn.RawPixels:
        damage = "missing tensor"  # it has no weights
    folder = shutil.copytree(saved(cls), tmp_path / "inner" / "run")
    shutil.copytree(saved(cls), tmp_path / "inner" / "other")  # a whole one, where an escape would land
    for name in ("config.json", "model.safetensors"):
        shutil.copy(saved(cls) / name, tmp_path / "inner" / name)
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(ValueError, match=message) as caught:
        nolabel.load(folder)
    one_line(caught)


def test_load_of_the_wrong_thing(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder at"):
        nolabel.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a finished run folder"):
        nolabel.load(tmp_path)
    with pytest.raises(ValueError, match=r"holds a nolabel.learn.simclr.SimCLR, not a SwAV"):
        learn.SwAV.load(saved(learn.SimCLR))
    with pytest.raises(ValueError, match="no parameter 'encodr' to replace: it has augment, encoder"):
        nolabel.load(saved(learn.SimCLR), encodr="conv4")
    with pytest.raises(ValueError, match="do not fit this SimCLR") as caught:
        nolabel.load(saved(learn.SimCLR), encoder="conv4")
    one_line(caught)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_folder_of_files_and_array_agree(cls, images, fitted, tmp_path):
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number:03d}.png")
    from_files = make(cls).fit(tmp_path)
    assert from_files.history_[0]["rankme"] == fitted(cls).history_[0]["rankme"]
    assert np.array_equal(from_files.transform(tmp_path), fitted(cls).transform(images))
    assert np.array_equal(fitted(cls).transform(tmp_path), fitted(cls).transform(list(images)))


@pytest.mark.parametrize("cls", SYSTEMS)
def test_before_fit(cls, images, tmp_path):
    calls = {"transform", "transform_maps", "predict", "predict_proba", "predict_rotation", "score", "pairs", "bow"}
    for name in sorted(calls & set(dir(cls))):
        with pytest.raises(NotFittedError, match=rf"this {cls.__name__} is not fitted"):
            getattr(make(cls), name)(images)
    with pytest.raises(NotFittedError, match=rf"this {cls.__name__} is not fitted"):
        make(cls).save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    failed = make(cls, training=training(batch_size=1000))
    with pytest.raises(ValueError, match="above the 72 rows"):
        failed.fit(images)
    with pytest.raises(NotFittedError):
        failed.transform(images)


def _with_nan(images):
    broken = images / 255.0
    broken[3, 2, 2] = np.nan
    return broken


BAD_DATA = {
    "one image": (lambda images, folder: images[:1], ValueError, "cannot learn from 1 row: need at least 2"),
    "no image": (lambda images, folder: images[:0], ValueError, "no pixels|no rows"),
    "empty list": (lambda images, folder: [], ValueError, "the list is empty"),
    "empty folder": (lambda images, folder: folder, ValueError, "no images or texts in"),
    "missing path": (lambda images, folder: folder / "nowhere", FileNotFoundError, "does not exist"),
    "NaN": (lambda images, folder: _with_nan(images), ValueError, "NaN in row 3"),
    "out of range": (lambda images, folder: images.astype(np.int64) * 2, ValueError, r"integers in \[0, 255\]"),
    "a number": (lambda images, folder: 3, TypeError, "expected a folder"),
    "vectors": (lambda images, folder: images.reshape(72, -1), ValueError, "no column 'image'; the columns are vector"),
    "missing column": (
        lambda images, folder: {"photo": images, "age": list(range(72))},
        ValueError,
        "no column 'image'; the columns are photo, age",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize("cls", SYSTEMS)
def test_bad_data(cls, case, images, tmp_path):
    build, error, message = BAD_DATA[case]
    with pytest.raises(error, match=message) as caught:
        make(cls).fit(build(images, tmp_path))
    one_line(caught)


BAD_TRAINING = {
    "batch_size": (1000, r"training.batch_size=1000 is above the 72 rows of the data: lower it"),
    "epochs": (0, "training.epochs must be a whole number of at least 1, got 0"),
    "steps": (2.5, "training.steps must be a whole number"),
    "lr": (-1.0, "training.lr must be above 0, got -1.0"),
    "weight_decay": (float("nan"), "training.weight_decay must be at least 0, got nan"),
    "minutes": (0.0, "training.minutes must be above 0"),
    "warmup": (1.0, r"training.warmup is a share of the run and must lie in \[0, 1\), got 1.0"),
    "optimiser": ("sdg", "training.optimiser must be one of sgd, nesterov, adamw, adam, lars, got 'sdg'"),
    "random_state": (None, "training.random_state must be a whole number of at least 0, got None"),
    "checkpoint_seconds": (-1, "training.checkpoint_seconds must be at least 0"),
}


@pytest.mark.parametrize("name", BAD_TRAINING)
@pytest.mark.parametrize("cls", SYSTEMS)
def test_bad_training(cls, name, images):
    value, message = BAD_TRAINING[name]
    with pytest.raises(ValueError, match=message) as caught:
        make(cls, training=Training(**{name: value})).fit(images)
    one_line(caught)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_columns_by_another_name(cls, images, fitted):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"photo": list(images), "age": range(72)})
    learner = make(cls).fit(frame, columns={"image": "photo"})
    z = learner.transform(frame, columns={"image": "photo"})
    assert np.array_equal(z, fitted(cls).transform(images))
    with pytest.raises(ValueError, match=r"no column 'foto'; the columns are photo, age \(did you mean 'photo'\?\)"):
        learner.transform(frame, columns={"image": "foto"})


@pytest.mark.parametrize("cls", SYSTEMS)
@pytest.mark.parametrize("value", [0, 130])
def test_images_all_alike_are_never_silent(cls, value):
    alike = np.full((40, 8, 8), value, np.uint8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            learner = make(cls).fit(alike)
        except ValueError as error:
            assert "too few of the images differ" in str(error)
            return
    assert learner.health_["verdict"] == "collapsed"
    assert learner.health_["reasons"]
    assert learner.history_[0]["verdict"] == "collapsed"
    stopped = [warning for warning in caught if issubclass(warning.category, CollapseWarning)]
    assert len(stopped) == int(cls.trains)
    assert len(learner.transform(alike)) == 40


@pytest.mark.parametrize("cls", SYSTEMS)
@pytest.mark.parametrize("rows", [37, 53])
def test_odd_numbers_of_rows(cls, rows, images):
    learner = make(cls).fit(images[:rows])
    assert learner.transform(images[:rows]).shape[0] == rows
    assert learner.history_[-1]["step"] == (2 if cls.trains else 0)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_batch_size_chosen_by_small_data(cls, images):
    learner = make(cls).set_params(training__batch_size=None, training__steps=1).fit(images[:21])
    assert learner.training_.batch_size == 8 if cls.trains else True
    assert learner.training.batch_size is None  # the argument stays what it was


@pytest.mark.parametrize("cls", SYSTEMS)
def test_labels_are_never_needed_nor_used(cls, images, digits, fitted):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with_labels = make(cls).fit(images, digits[1][:72])
    assert np.array_equal(with_labels.transform(images), fitted(cls).transform(images))
    said = [warning for warning in caught if "y is ignored" in str(warning.message)]
    assert len(said) == int(cls is learn.GSimCLR)


@pytest.mark.parametrize("cls", WITH_ENCODER)
def test_module_as_encoder(cls, images, tmp_path):
    torch.manual_seed(5)
    module = Conv4((4, 8), channels=1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    learner = make(cls, encoder=module)
    z = learner.fit(images).transform(images)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"fit changed {name} of its argument"
    assert np.array_equal(learner.fit(images).transform(images), z)
    learner.save(tmp_path)
    with pytest.raises(
        ValueError, match=r"trained with a Conv4 given as encoder=.*load\(path, encoder=module\)"
    ) as caught:
        nolabel.load(tmp_path)
    one_line(caught)
    loaded = nolabel.load(tmp_path, encoder=Conv4((4, 8), channels=1))
    assert np.array_equal(loaded.transform(images), z)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_other_shapes_are_read_as_in_training(cls, images, fitted):
    """Colour and other sides come out as wide as what was trained on, and grey in colour like grey."""
    width = fitted(cls).transform(images).shape[1]
    colour = np.repeat(images[..., None], 3, axis=-1)
    np.testing.assert_allclose(fitted(cls).transform(colour), fitted(cls).transform(images), rtol=1e-3, atol=1e-4)
    large = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    assert fitted(cls).transform(large).shape == (3, width)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_refit_forgets(cls, images, fitted):
    colour = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8)
    learner = make(cls)
    learner.fit(images).fit(colour)
    assert learner.example_["batch"]["image"]["shape"][1] == 3
    assert np.array_equal(learner.fit(images).transform(images), fitted(cls).transform(images))


@pytest.mark.parametrize("cls", SYSTEMS)
def test_layers(cls, images, fitted):
    with pytest.raises(ValueError, match="layer must be one of .*got 'stage99'"):
        fitted(cls).transform(images, layer="stage99")
    stages = fitted(cls).net_.encoder.channels
    if not stages:
        with pytest.raises(ValueError, match="no feature maps"):
            fitted(cls).transform_maps(images)
        return
    maps = fitted(cls).transform_maps(images)
    name, channels = list(stages.items())[-1]
    assert maps.shape[:2] == (72, channels)
    assert maps.ndim == 4
    pooled = fitted(cls).transform(images, layer=name)
    np.testing.assert_allclose(pooled, maps.mean(axis=(2, 3)), rtol=0.02, atol=0.002)  # bfloat16 where hardware has it
