"""A learned text encoder gives the same vectors in the libraries it is exported to."""

import json

import numpy as np
import pytest
import torch

from nolabel.data.tokenisers import read_tokeniser
from nolabel.learn import SimCLR
from nolabel.training import TextLearner, Training, export
from nolabel.views.tokens import crop


class Crops(TextLearner):
    def __init__(self, encoder="bert-1x32", *, vocabulary_size=600, max_length=32, scaled=False, training=None):
        self.encoder, self.vocabulary_size, self.max_length = encoder, vocabulary_size, max_length
        self.scaled, self.training = scaled, training

    @property
    def unit(self):
        return self.scaled

    def build(self, example):
        net = torch.nn.Module()
        net.encoder = self.make_encoder()
        return net

    def views(self, batch, generator):
        return crop(batch["text"]["tokens"], batch["text"]["mask"], (0.5, 0.9), generator)

    def loss(self, net, view):
        return net.encoder(*view).square().mean()

    def encode(self, net, batch):
        z = super().encode(net, batch)
        return torch.nn.functional.normalize(z) if self.scaled else z


@pytest.fixture(scope="module", params=[False, True], ids=["as they are", "unit"])
def learned(request, docstrings):
    settings = Training(steps=3, batch_size=16, precision="32-true")
    return Crops(scaled=request.param, training=settings).fit(docstrings)


def test_sentence_transformers_opens_it(learned, docstrings, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    export(learned, tmp_path / "out", "sentence-transformers")
    theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert theirs.max_seq_length == 32
    np.testing.assert_allclose(theirs.encode(docstrings[:50]), learned.transform(docstrings[:50]), atol=1e-5)


def test_transformers_opens_it(learned, docstrings, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    export(learned, tmp_path / "out", "hf")
    tokeniser, model = (
        AutoTokenizer.from_pretrained(tmp_path / "out"),
        AutoModel.from_pretrained(tmp_path / "out").eval(),
    )
    batch = tokeniser(docstrings[:9], padding=True, truncation=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad():
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    z = (states * mask).sum(1) / mask.sum(1)
    z = torch.nn.functional.normalize(z) if learned.scaled else z
    np.testing.assert_allclose(z.numpy(), learned.transform(docstrings[:9]), atol=1e-5)


def test_onnx_runs_it(learned, docstrings, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    folder = export(learned, tmp_path / "out", "onnx")
    session = runtime.InferenceSession(str(folder / "model.onnx"))
    tokeniser = read_tokeniser((folder / "tokenizer.json").read_text())
    tokeniser.enable_padding()
    tokeniser.enable_truncation(32)
    for count in (1, 7):
        found = tokeniser.encode_batch(docstrings[:count])
        given = {
            "input_ids": np.array([e.ids for e in found]),
            "attention_mask": np.array([e.attention_mask for e in found]),
        }
        (z,) = session.run(None, given)
        np.testing.assert_allclose(z, learned.transform(docstrings[:count]), atol=1e-5)


def test_what_cannot_be_exported_is_refused(learned, digits, tmp_path):
    with pytest.raises(ValueError, match="to must be one of hf, sentence-transformers, onnx, got 'gguf'"):
        export(learned, tmp_path / "out", "gguf")
    with pytest.raises(TypeError, match="SimCLR has no text encoder of its own"):
        export(SimCLR(), tmp_path / "out", "hf")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        export(learned, tmp_path / "there", "hf")


def test_a_failed_export_leaves_nothing(learned, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="No space left"):
        export(learned, tmp_path / "out", "sentence-transformers")
    assert list(tmp_path.iterdir()) == []
