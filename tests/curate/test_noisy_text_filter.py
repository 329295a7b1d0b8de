"""The rules of ALIGN, each by a planted row, and their borders."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from nolabel.curate import NoisyTextFilter
from nolabel.curate.counts import most_frequent
from nolabel.curate.pictures import hash_of, nearest_bits, perceptual_hash
from nolabel.training import load


def rows(texts, **columns):
    """A table of large images, all different."""
    n = len(texts)
    table = {"text": texts, "image_id": [f"i{row}" for row in range(n)], "width": [400] * n, "height": [300] * n}
    return table | columns


def rules(**settings):
    return NoisyTextFilter(**({"min_count": 1} | settings))


def why(filter_, table, **fit):
    """Row to rule of what is dropped."""
    filter_.fit_transform(table, **fit)
    return {row: rule for row, rule, _ in filter_.dropped_}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def scene(seed, side=64):
    """A smooth picture of its own."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


TEXT = "a red leather shoe"


def test_each_rule_drops_its_planted_rows_and_no_others():
    rng = np.random.default_rng(0)
    table = rows([f"{TEXT} {'abcdefgh'[row % 8]} {'abcdefgh'[row // 8 % 8]}" for row in range(400)])
    table["unsafe"] = [0.0] * 400
    plants = {}

    def plant(rule, **row):
        plants[len(table["text"])] = rule
        known = {
            "text": f"{TEXT} of number a",
            "image_id": f"p{len(plants)}",
            "width": 400,
            "height": 300,
            "unsafe": 0.0,
        }
        for name, value in (known | row).items():
            table[name].append(value)

    for number in range(9):
        words = ["red", "leather", "shoe", "a", "b", "c", "d", "e", "f"]
        plant("unsafe", unsafe=0.9)
        plant("small", width=200)
        plant("elongated", width=900)
        plant("many texts", image_id="sprite", text=f"{TEXT} a b {words[number]}")
        plant("rare words", text=f"{TEXT} {''.join(rng.choice(list('xyz'), 12))}")
        plant("length", text=" ".join(words[:2] * 11) + f" {words[number]}")
    for _ in range(12):
        plant("boilerplate", text="A shoe: red")
    order = rng.permutation(len(table["text"]))
    shuffled = {name: [values[at] for at in order] for name, values in table.items()}
    dropped = why(rules(min_count=2, max_unsafe=0.5, max_texts_per_image=8, max_images_per_text=30 // 3), shuffled)
    assert {int(order[row]): rule for row, rule in dropped.items()} == plants


def test_borders():
    sizes = rows([f"{TEXT} {c}" for c in "abcd"], width=[200, 201, 899, 900], height=[900, 300, 300, 300])
    assert why(rules(), sizes) == {0: "small", 3: "elongated"}
    assert why(rules(max_images_per_text=10), rows([TEXT] * 10)) == {}
    assert set(why(rules(max_images_per_text=10), rows([TEXT] * 11)).values()) == {"boilerplate"}
    same = rows([f"{TEXT} {c}" for c in "abc"], image_id=["i"] * 3)
    assert why(rules(max_texts_per_image=3), same) == {}
    assert why(rules(max_texts_per_image=2), same) == dict.fromkeys(range(3), "many texts")
    lengths = rows([" ".join(["shoe"] * n) for n in (2, 3, 20, 21)])
    assert why(rules(), lengths) == {0: "length", 3: "length"}


def test_texts_are_counted_by_images_and_images_by_texts_not_by_rows():
    again = rows([TEXT] * 30, image_id=["one"] * 30)
    assert why(rules(max_images_per_text=1, max_texts_per_image=1), again) == {}
    # the same words in other letters and signs are the same text
    assert why(rules(max_images_per_text=1), rows(["A red shoe!", "a RED, shoe"])) == dict.fromkeys(
        (0, 1), "boilerplate"
    )


def test_counts_are_of_the_raw_table():
    table = rows(["a rare shoe", "a rare shoe of mine"] + ["a shoe of mine"] * 3, width=[400, 100, 400, 400, 400])
    assert why(rules(min_count=2), table) == {1: "small"}  # "rare" comes twice, though one row is too small
    kept = rules(min_count=2).fit(table).transform({k: v[:1] for k, v in table.items()})
    assert len(kept) == 1


def test_pairs_of_words():
    table = rows(["red shoe here", "red shoe here", "here shoe red", "shoe here red"])
    assert why(rules(min_count=2), table) == {}
    assert why(rules(min_count=2, bigrams="all"), table) == {2: "rare words", 3: "rare words"}
    assert why(rules(min_count=2, bigrams="any"), table) == {2: "rare words"}  # "shoe here" comes three times
    found = rules(min_count=2, bigrams="all")
    found.fit_transform(table)
    assert found.dropped_[0][2] == "rare pair 'here shoe'"


def test_what_is_frequent():
    keys, counts = np.array([1, 2, 3, 4]), np.array([5, 1, 3, 1])
    assert most_frequent(keys, counts, min_count=3).tolist() == [1, 3]
    assert most_frequent(keys, counts, size=3).tolist() == [1, 2, 3]  # of equal counts the smaller key
    assert most_frequent(keys, counts, coverage=0.5).tolist() == [1]
    assert most_frequent(keys, counts, coverage=0.51).tolist() == [1, 3]
    assert most_frequent(keys, counts, coverage=1.0).tolist() == [1, 2, 3, 4]
    assert most_frequent(keys[:0], counts[:0], coverage=0.5).tolist() == []
    table = rows(["shoe shoe shoe red", "shoe shoe red red"])
    assert why(rules(vocabulary_size=1), table) == dict.fromkeys((0, 1), "rare words")
    assert why(rules(vocabulary_size=2), table) == {}


def test_counting_in_pieces_is_counting_at_once(tmp_path):
    table = rows([f"{TEXT} {'abc'[row % 3]} {row % 7}" for row in range(50)], image_id=[row % 11 for row in range(50)])
    whole = rules(min_count=7, max_texts_per_image=4, max_images_per_text=2, bigrams="any").fit(table)
    parts = clone(whole)
    for start in (0, 20, 30):
        end = {0: 20, 20: 30, 30: 50}[start]
        parts.partial_fit({name: values[start:end] for name, values in table.items()})
    whole.transform(table)
    kept = parts.transform(table)
    assert whole.dropped_ == parts.dropped_
    assert 0 < len(kept) < 50
    parts.save(tmp_path / "rules")
    again = load(tmp_path / "rules")
    assert again.report_ == parts.report_
    again.transform(table)
    assert again.dropped_ == parts.dropped_
    assert again.partial_fit(table).rows_ == 100
    assert whole.fit(table).rows_ == 50


def test_sizes_and_names_come_from_the_images():
    pixels = [scene(seed, 40) for seed in range(4)]
    images = [png(pixels[0]), png(pixels[1][:10]), png(pixels[2][:20]), b"no image", png(pixels[0])]
    found = rules(min_side=16, max_aspect=2)
    kept = found.fit_transform({"image": images, "text": [f"{TEXT} {c}" for c in "abcde"]})
    assert [(row, rule) for row, rule, _ in found.dropped_] == [(1, "small"), (2, "elongated"), (3, "no image")]
    assert kept["text"][:] == [f"{TEXT} a", f"{TEXT} e"]
    assert why(rules(min_side=16, max_texts_per_image=1), {"image": images, "text": [f"{TEXT} {c}" for c in "abcde"]})[
        4
    ] == (
        "many texts"  # rows 0 and 4 show the same image
    )


def test_near_duplicates_of_held_out_images():
    held = [scene(0), scene(1)]
    near = np.asarray(Image.fromarray(scene(0)).resize((50, 50))) // 2 + 60
    flat = np.full((64, 64), 90, np.uint8)
    images = [near, scene(1), scene(2), flat]
    table = {"image": [png(image) for image in images], "text": [f"{TEXT} {c}" for c in "abcd"]}
    found = rules(min_side=16)
    assert why(found, table, held_out={"image": [png(image) for image in [*held, flat // 2]]}) == dict.fromkeys(
        (0, 1), "held out"
    )
    assert found.dropped_[1][2] == "the very file of a held-out image"
    assert why(found, table) == {}  # a new fit forgets them


def test_perceptual_hashes():
    first = hash_of(scene(3))
    assert first.shape == (8,)
    assert hash_of(np.full((40, 40), 7, np.uint8)) is None
    assert hash_of(b"nothing") is None
    brighter = (scene(3) * 0.7 + 50).astype(np.uint8)
    assert nearest_bits(hash_of(brighter)[None], first[None])[0] <= 4
    others = np.stack([hash_of(scene(seed)) for seed in range(10, 30)])
    assert nearest_bits(others, first[None]).min() > 8
    wave = np.cos(np.pi * (np.arange(32) + 0.5) * 3 / 32) * 100 + 120  # the third cosine across, alone
    bits = np.unpackbits(perceptual_hash(np.tile(wave, (1, 32, 1)).astype(np.uint8)))
    assert np.flatnonzero(bits).tolist() == [3]


def test_missing_texts_and_images():
    table = rows([None, TEXT, "!!!", TEXT], image_id=["a", None, "c", "d"])
    assert why(rules(), table) == {0: "no text", 1: "no image", 2: "length"}
    assert why(rules(), rows([TEXT], width=[None])) == {0: "no image"}


def test_the_report_adds_up():
    found = rules()
    kept = found.fit_transform(rows([TEXT, "shoe", "x"]))
    assert found.report_["rows"] == found.report_["kept"] + sum(found.report_["dropped"].values()) == 3
    assert len(kept) == found.report_["kept"] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_side": -1}, "min_side must be"),
        ({"max_aspect": 1}, "max_aspect must be"),
        ({"max_texts_per_image": 0}, "max_texts_per_image must be"),
        ({"max_images_per_text": 2.5}, "max_images_per_text must be"),
        ({"min_count": 0}, "min_count must be"),
        ({"vocabulary_size": 0}, "vocabulary_size must be"),
        ({"coverage": 1.5}, "coverage must be"),
        ({"bigrams": "some"}, "bigrams must be"),
        ({"min_words": 5, "max_words": 4}, "max_words must be at least min_words=5"),
        ({"held_out_bits": -1}, "held_out_bits must be"),
        ({"max_unsafe": 0.5}, "max_unsafe: no column 'unsafe'"),
    ],
)
def test_bad_parameters(settings, said):
    with pytest.raises(ValueError, match=said):
        NoisyTextFilter(**settings).fit(rows([TEXT]))


def test_bad_tables():
    with pytest.raises(NotFittedError, match="counted nothing"):
        rules().transform(rows([TEXT]))
    with pytest.raises(TypeError, match="expected a string, got int in row 0"):
        rules().fit(rows([3]))
    with pytest.raises(ValueError, match="no column 'text'"):
        rules().fit({"image_id": ["a"]})
    with pytest.raises(ValueError, match="no 'image' or 'image_id'"):
        rules().fit({"text": [TEXT]})
    with pytest.raises(ValueError, match="set min_side=None"):
        rules().fit({"text": [TEXT], "image_id": ["a"]})
    assert why(rules(min_side=None, max_aspect=None), {"text": [TEXT], "image_id": ["a"]}) == {}
    with pytest.raises(ValueError, match="sizes above 0, got 0 x 300 in row 1"):
        rules().fit_transform(rows([TEXT, TEXT], width=[400, 0]))
    with pytest.raises(ValueError, match="expected a score in each row, got nan in row 0"):
        rules(max_unsafe=0.5).fit_transform(rows([TEXT], unsafe=[float("nan")]))
    with pytest.raises(ValueError, match="held_out: the table has no column 'image'"):
        rules().fit(rows([TEXT]), held_out={"image": [png(scene(0))]})
    with pytest.raises(ValueError, match="held_out: no column 'image'"):
        rules(min_side=None).fit({"image": [png(scene(0))], "text": [TEXT]}, held_out={"text": ["x"]})
