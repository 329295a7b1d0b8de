"""Corpora on a Ray cluster of two nodes: a worker is killed, then a whole node, and every row is there once."""

import contextlib
import io
import json
import sys
import threading
import time

import lance
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nolabel.cli.app import main
from nolabel.corpus import Made, map_corpus, open_corpus, summarise
from nolabel.corpus.engine import connected, loopback
from nolabel.corpus.writing import Output

SHARDS, ROWS = 24, 6


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray.cloudpickle
        from ray.cluster_utils import Cluster

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
        with loopback():
            made = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
            made.add_node(**node)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def corpus(digits, tmp_path_factory):
    """144 images in 24 shards; one in each is broken."""
    folder = tmp_path_factory.mktemp("digits")
    for shard in range(SHARDS):
        cells = []
        for pixels in digits[0][shard * ROWS : (shard + 1) * ROWS]:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            cells.append(buffer.getvalue())
        cells[3] = b"broken"
        rows = np.arange(ROWS) + shard * ROWS
        pq.write_table(pa.table({"id": rows, "image": cells}), folder / f"part-{shard:02d}.parquet")
    return folder


@pytest.fixture(scope="module")
def learned(digits, tmp_path_factory):
    from nolabel.learn import SimCLR
    from nolabel.training import Training

    folder = tmp_path_factory.mktemp("runs") / "digits"
    SimCLR("conv4-x0.25", image_size=16, training=Training(steps=2, batch_size=32, precision="32-true")).fit(
        digits[0][:64], run=folder
    )
    return folder


@contextlib.contextmanager
def in_the_middle(out, strike):
    """Call `strike` once some shards are finished; gives how many were when it was over."""
    finished = []

    def wait():
        for _ in range(12_000):
            if len(list(out.glob("_nolabel/shards/*.json"))) >= 3:
                strike()
                finished.append(len(list(out.glob("_nolabel/shards/*.json"))))
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    yield finished
    thread.join()


def workers(node):
    """Processes of a node that work on shards."""
    below = psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
    return [process for process in below if process.name().startswith("ray::MapWork")]


def command(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    return json.loads(out)


def test_it_listens_on_the_loopback_alone(cluster):
    places = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            places |= {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    assert places
    assert places <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_worker_is_killed_while_a_corpus_is_embedded(cluster, corpus, learned, capsys, tmp_path):
    out = tmp_path / "vectors.lance"
    ray = ["--engine", "ray", "--address", cluster.address, "--json"]
    killed = []

    def strike():
        (second,) = cluster.worker_nodes
        victim = (workers(second) or workers(cluster.head_node))[0]
        victim.kill()
        killed.append(victim.pid)

    with in_the_middle(out, strike) as finished:
        summary = command(capsys, "embed", learned, corpus.as_uri(), "--out", out, *ray)
    assert killed
    assert finished[0] < SHARDS, "it was still running"
    assert (summary["rows"], summary["vectors"], summary["skipped"]) == (144, 120, 24)
    table = lance.dataset(str(out)).to_table()
    assert sorted(table["id"].to_pylist()) == [row for row in range(144) if row % ROWS != 3]
    alone = tmp_path / "alone"
    command(capsys, "embed", learned, corpus, "--out", alone, "--json")
    local = pq.read_table(alone)
    by_id = {row["id"]: row["vector"] for row in table.to_pylist()}
    assert np.allclose([by_id[row] for row in local["id"].to_pylist()], np.stack(local["vector"].to_numpy()), atol=1e-5)


class Slow:
    """Takes a while for a piece."""

    job = {"slow": True}  # noqa: RUF012

    def __call__(self, piece):
        time.sleep(0.15)
        flat = pa.array(np.repeat(piece["id"].to_numpy() + 1, 2).astype(np.float32))
        return Made(np.arange(len(piece)), pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, 2)}), [])


def test_a_node_is_lost(cluster, corpus, tmp_path):
    out = tmp_path / "numbers"
    (second,) = cluster.worker_nodes
    with connected(cluster.address):
        with in_the_middle(out, lambda: cluster.remove_node(second, allow_graceful=False)) as finished:
            manifest = map_corpus(open_corpus(str(corpus)), Slow(), Output(str(out)), engine="ray")
        found = summarise(open_corpus(str(out)), sample=50, engine="ray")
    assert finished[0] < SHARDS, "it was still running"
    assert (manifest["rows"], manifest["written"]) == (144, 144)
    assert sorted(pq.read_table(out)["id"].to_pylist()) == list(range(144))
    alone = summarise(open_corpus(str(out)), sample=50)
    assert np.array_equal(found.sample, alone.sample)
    assert np.allclose(found.moments.scatter, alone.moments.scatter)
