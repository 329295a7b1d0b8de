"""Scores of a corpus: as of all its vectors at once, whatever the shards and the engine."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nolabel.assess import Moments, alpha_req, rankme, spread
from nolabel.corpus import open_corpus, summarise


@pytest.fixture
def z():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(900, 12)) * np.arange(1, 13) ** -0.5 + 3).astype(np.float32)


def write(path, z, **columns):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), z.shape[1])
    pq.write_table(pa.table({"vector": vectors, **columns}), path)


@pytest.fixture
def corpus(z, tmp_path):
    for number, rows in enumerate(np.split(np.arange(len(z)), [1, 400, 410])):
        write(tmp_path / f"{number}.parquet", z[rows], label=rows)
    return open_corpus(str(tmp_path))


def test_moments_add_up(z):
    parts = Moments.of(z[:1]) + (Moments.of(z[1:300]) + Moments.of(z[300:]))
    assert parts.rows == len(z)
    assert np.allclose(parts.mean, z.mean(axis=0))
    assert np.allclose(parts.scatter, np.cov(z.T.astype(np.float64), bias=True) * len(z))
    assert np.allclose(parts.spread(), spread(z))


def test_few_rows_stand_for_all(z, corpus):
    alike = summarise(corpus, sample=10).moments.alike()
    assert alike.shape == (48, 12)
    for center in (False, True):
        assert rankme(alike, center=center) == pytest.approx(rankme(z, center=center), rel=1e-6)
    assert alpha_req(alike).alpha == pytest.approx(alpha_req(z).alpha, rel=1e-6)


def test_a_small_corpus_is_its_own_sample(z, corpus):
    found = summarise(corpus, sample=len(z), columns=("label",))
    assert np.array_equal(found.sample, z)
    assert found.columns["label"] == list(range(len(z)))


def test_a_sample_is_drawn_evenly_by_its_seed(z, corpus):
    found = summarise(corpus, sample=300, columns=("label",))
    rows = np.array(found.columns["label"])
    assert len(set(rows.tolist())) == 300
    assert np.array_equal(found.sample, z[rows])
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, np.array([0, 1, 400, 410])[found.places[:, 0]] + found.places[:, 1])
    assert 100 < (rows < 400).sum() < 170  # 133 expected, standard deviation 7
    again, other = (summarise(corpus, sample=300, columns=("label",), random_state=seed) for seed in (0, 1))
    assert again.columns == found.columns != other.columns


def test_the_shard_is_named(z, corpus, tmp_path):
    bad = z[:4].copy()
    bad[2, 0] = np.nan
    write(tmp_path / "4.parquet", bad, label=np.arange(4))
    with pytest.raises(ValueError, match="4: vector, from row 0 on: row 2 has non-finite values"):
        summarise(open_corpus(str(tmp_path)))
    write(tmp_path / "4.parquet", z[:4, :5].copy(), label=np.arange(4))
    with pytest.raises(ValueError, match="vectors of 12 and of 5 numbers"):
        summarise(open_corpus(str(tmp_path)))
    pq.write_table(pa.table({"vector": [[1.0], [1.0, 2.0]], "label": [1, 2]}), tmp_path / "4.parquet")
    with pytest.raises(ValueError, match="4: vector: expected vectors of one width"):
        summarise(open_corpus(str(tmp_path)))
    with pytest.raises(ValueError, match="no column 'colour'"):
        summarise(corpus, columns=("colour",))
