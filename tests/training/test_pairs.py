import numpy as np
import pytest

from nolabel.learn import ALIGN
from nolabel.training import Training


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 24, 24, 3), dtype=np.uint8)
    return {"image": list(images), "text": [f"picture number {i % 7} in words" for i in range(40)]}


def learner(**settings):
    training = Training(**{"steps": 3, "batch_size": 8, "stop_on_collapse": False, **settings})
    return ALIGN("conv4", text_encoder="bert-1x32", vocabulary_size=120, training=training)


def test_a_broken_image_and_an_empty_text_are_left_out_and_named(pairs, tmp_path):
    import io

    from datasets import Dataset
    from PIL import Image

    def encoded(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    cells = [encoded(pixels) for pixels in pairs["image"]]
    cells[3] = b"\x89PNG\r\n\x1a\n broken"
    texts = list(pairs["text"])
    texts[1] = ""
    with pytest.warns(UserWarning, match="1 of 40 images were skipped, first row 3"):
        source = learner().open(Dataset.from_dict({"image": cells, "text": texts}), None)
    assert len(source) == 38
    assert [skip.row for skip in source.skipped] == [1, 3]
    assert source.rows.tolist() == [0, 2, *range(4, 40)]


def test_the_same_seed_draws_the_same_texts(pairs):
    several = {"image": pairs["image"], "text": [[text, f"{text} again"] for text in pairs["text"]]}
    model = learner()
    source = model.open(several, None)
    plans = [model.plan(source, 8, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all((a == b).all() for a, b in zip(plans[0], plans[1]))
    assert any((a != b).any() for a, b in zip(plans[0], plans[2]))
    assert all(batch.shape == (8, 2) for batch in plans[0])


def test_one_thread_of_training_is_repeatable_and_goes_on_after_a_save(pairs, tmp_path):
    import nolabel

    first, second = (learner(random_state=3).fit(pairs) for _ in range(2))
    np.testing.assert_allclose(first.embed_texts(["picture one"]), second.embed_texts(["picture one"]), atol=1e-6)
    first.save(tmp_path / "run")
    loaded = nolabel.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.embed_texts(["picture one"]), first.embed_texts(["picture one"]), atol=1e-6)
    np.testing.assert_allclose(
        loaded.transform(pairs["image"][:5]), first.transform(pairs["image"][:5]), rtol=1e-4, atol=1e-5
    )
