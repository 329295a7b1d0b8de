"""A learned text encoder under the mteb evaluator: by the exported folder and by the adapter, with the same scores."""

import numpy as np
import pytest
import torch

from nolabel.learn import VDR, SimCLR
from nolabel.training import TextLearner, Training, export
from nolabel.training.evaluating import mteb_encoder
from nolabel.views.tokens import crop


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


class Crops(TextLearner):
    def __init__(self, encoder="bert-1x32", *, vocabulary_size=600, max_length=32, training=None):
        self.encoder, self.vocabulary_size, self.max_length = encoder, vocabulary_size, max_length
        self.training = training

    def build(self, example):
        net = torch.nn.Module()
        net.encoder = self.make_encoder()
        return net

    def views(self, batch, generator):
        return crop(batch["text"]["tokens"], batch["text"]["mask"], (0.5, 0.9), generator)

    def loss(self, net, view):
        return net.encoder(*view).square().mean()


@pytest.fixture(scope="module")
def learned(docstrings):
    return Crops(training=Training(steps=3, batch_size=16, precision="32-true")).fit(docstrings)


def described(kind, name, score):
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name, type=kind, main_score=score, dataset={"path": "memory", "revision": "1"}, description="Made here.",
        reference=None, eval_splits=["test"], eval_langs=["eng-Latn"], category="t2t", modalities=["text"], date=None,
        domains=None, task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
        bibtex_citation="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tasks(docstrings):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.sts import AbsTaskSTS

    whole = [text for text in docstrings if len(text.split()) > 12][:40]
    starts = [" ".join(text.split()[:6]) for text in whole]

    class Sameness(AbsTaskSTS):
        metadata = described("STS", "NolabelSameness", "cosine_spearman")
        min_score, max_score = 0, 1

        def load_data(self, **how):
            rng = np.random.default_rng(0)
            others = whole[1:] + whole[:1]
            rows = {"sentence1": starts * 2, "sentence2": whole + others}
            rows["score"] = (np.repeat([0.8, 0.2], len(whole)) + rng.random(2 * len(whole)) / 10).tolist()
            self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
            self.data_loaded = True

    class Starts(AbsTaskRetrieval):
        metadata = described("Retrieval", "NolabelStarts", "ndcg_at_10")

        def load_data(self, **how):
            numbers = [str(number) for number in range(len(whole))]
            corpus = Dataset.from_dict({"id": numbers, "text": whole, "title": [""] * len(whole)})
            queries = Dataset.from_dict({"id": [f"q{number}" for number in numbers], "text": starts})
            wanted = {f"q{number}": {number: 1} for number in numbers}
            split = {"corpus": corpus, "queries": queries, "relevant_docs": wanted, "top_ranked": None}
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return [Sameness(), Starts()]


def scores(model, task):
    import mteb

    (result,) = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False).task_results
    return result.scores["test"][0]


@pytest.mark.parametrize("number", [0, 1], ids=["sts", "retrieval"])
def test_folder_and_adapter_score_the_same(number, learned, tasks, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = export(learned, tmp_path / "out", "sentence-transformers")
    theirs = scores(SentenceTransformer(str(folder), device="cpu"), tasks[number])
    ours = scores(mteb_encoder(learned), tasks[number])
    assert ours["main_score"] == pytest.approx(theirs["main_score"], abs=1e-4)
    assert ours["main_score"] > 0.1  # near 0 where vectors say nothing of the texts


def test_the_score_is_that_of_the_vectors(learned, tasks):
    from scipy.stats import spearmanr

    task = tasks[0]
    found = scores(mteb_encoder(learned), task)["main_score"]
    task.load_data()  # the evaluator forgets it
    rows = task.dataset["test"]
    a, b = (learned.transform(list(rows[name])) for name in ("sentence1", "sentence2"))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found == pytest.approx(spearmanr(cosine, rows["score"])[0], abs=1e-4)


def test_it_keeps_the_protocol(learned):
    from mteb.models import EncoderProtocol

    model = mteb_encoder(learned, name="mine/crops")
    assert isinstance(model, EncoderProtocol)
    assert model.mteb_model_meta.name == "mine/crops"
    assert mteb_encoder(learned).mteb_model_meta.name == "nolabel/Crops"
    with pytest.warns(UserWarning, match="1 of 3 texts are empty: rows of zeros"):
        z = model.encode([{"text": ["one text of many words", " "]}, {"text": ["another text"]}])
    assert z.shape == (3, 32)
    assert not z[1].any()
    np.testing.assert_allclose(z[[0, 2]], learned.transform(["one text of many words", "another text"]), atol=1e-6)
    unit = z[[0, 2]] / np.linalg.norm(z[[0, 2]], axis=1, keepdims=True)
    np.testing.assert_allclose(model.similarity(z[[0, 2]], z[[0, 2]]), unit @ unit.T, atol=1e-5)
    np.testing.assert_allclose(model.similarity_pairwise(z[[0, 2]], z[[2, 0]]), (unit * unit[::-1]).sum(1), atol=1e-5)


def test_what_encodes_no_texts_is_refused(learned):
    with pytest.raises(TypeError, match="makes vectors of texts, got SimCLR"):
        mteb_encoder(SimCLR())
    with pytest.raises(TypeError, match="VDR encodes queries and passages apart"):
        mteb_encoder(VDR())
    with pytest.raises(TypeError, match="got str"):
        mteb_encoder("contriever")
    with pytest.raises(ValueError, match="name must be organisation/model, got 'crops'"):
        mteb_encoder(learned, name="crops")
    with pytest.raises(ValueError, match="none of 1 texts holds a word"):
        mteb_encoder(learned).encode([{"text": [" "]}])


def test_unfitted_is_refused():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        mteb_encoder(Crops())
