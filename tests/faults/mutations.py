"""Valid small files of every kind, and how each is damaged: the same for the same seed and number."""

import io
import json
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

INTERESTING = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 2**63 - 1, 2**64 - 1)
#: What is put into texts.
STRANGE = (
    "\0", "\ufeff", "\u202e", "\U0001f600" * 9, "1e999", "-" + "9" * 400, "NaN", "[" * 5000, "{" * 3000, '"', "'", ",,,,,,",
    "<div>" * 3000, "</" * 50, "<!--", "<![CDATA[", "&#x110000;", "&" + "a" * 2000, "\r", "\n\n\n", "\t", "a" * 70_000, "=1+1",
)  # fmt: skip
#: What is put in the place of a value of JSON.
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1.5, "", "x" * 3000, "../..", [], [1], {}, {"a": 1}, [[[[]]]], {"tuple": 1}, {"tensor": "net"}, {"class": "os.system", "params": {}}, {"estimator": "../x"}, {"class": "nolabel.learn.SimCLR", "params": {"temperature": []}})  # fmt: skip  # noqa: E501


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes after one to three accidents."""
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(ACCIDENTS)(bytearray(data), rng)
    return data


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 12)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _truncate(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randint(0, len(data))])


def _insert(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return bytes(data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:])


def _remove(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(1, 64)]
    return bytes(data)


def _zero(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    length = min(rng.randint(1, 64), len(data) - start)
    data[start : start + length] = bytes(length)
    return bytes(data)


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    part = data[start : start + rng.randint(1, 200)]
    return bytes(data[:start] + part * rng.randint(2, 20) + data[start:])


def _number(data: bytearray, rng: random.Random) -> bytes:
    """A number where perhaps a length or a size stands, in either order of bytes."""
    code = rng.choice("BHIQ")
    size = struct.calcsize(code)
    if len(data) > size:
        at = rng.randrange(len(data) - size)
        value = rng.choice(INTERESTING) % 256**size
        data[at : at + size] = struct.pack(rng.choice("<>") + code, value)
    return bytes(data)


ACCIDENTS: Sequence[Callable[[bytearray, random.Random], bytes]] = (
    _flip, _truncate, _insert, _remove, _zero, _repeat, _number,
)  # fmt: skip


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """A text with something strange in it, in another encoding, or damaged as bytes."""
    way = rng.randrange(4)
    if way == 0:
        return damaged(data, rng)
    text = data.decode()
    for _ in range(rng.randint(0 if way == 1 else 1, 3)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(STRANGE) + text[at:]
    encoding = rng.choice(("utf-16", "utf-16-be", "utf-32", "latin-1", "utf-7", "utf-8-sig")) if way == 1 else "utf-8"
    return text.encode(encoding, "replace")


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """JSON that is still valid, but says something else; or damaged as a text."""
    if rng.random() < 0.3:
        return damaged_text(data, rng)
    told = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(told)
    for _ in range(rng.randint(1, 2)):
        node, key = rng.choice(places)
        if isinstance(node, dict) and rng.random() < 0.25:
            node.pop(key, None)
        else:
            node[key] = rng.choice(VALUES)
    return json.dumps(told).encode()


# Valid files ----------------------------------------------------------------------------------------------------------


def image(rng: random.Random, kind: str) -> bytes:
    """A small picture: grey, colour, palette or with transparency."""
    from PIL import Image

    side = rng.choice((8, 16, 33))
    mode = rng.choice(
        {"JPEG": ("L", "RGB", "CMYK"), "GIF": ("P", "L")}.get(kind, ("L", "RGB", "RGBA", "P", "1", "I;16"))
    )
    size = (side, rng.choice((8, 16)))
    raw = rng.randbytes(size[0] * size[1] * 4)
    made = Image.frombytes("RGBA", size, raw)
    made = (
        Image.frombytes("I;16", size, raw[: size[0] * size[1] * 2])
        if mode == "I;16"
        else made.convert("RGB").convert(mode)
    )
    stream = io.BytesIO()
    if kind == "GIF" and rng.random() < 0.5:
        made.save(stream, kind, save_all=True, append_images=[made.rotate(90)], duration=100)
    else:
        made.save(stream, kind)
    return stream.getvalue()


def csv_table(rng: random.Random) -> bytes:
    lines = ["text,number,label"]
    lines += [f'"some words, {row}",{rng.random():.3f},{rng.choice("ab")}' for row in range(rng.randint(1, 20))]
    if rng.random() < 0.4:  # columns that change their kind, or their number
        lines.append(rng.choice(("x,y", "a,b,c,d,e", ",,", '"', "text,1e400,b", "text,0x10,b", "text,2020-01-01,b")))
    return "\n".join(lines).encode()


def jsonl_table(rng: random.Random) -> bytes:
    rows: list[Any] = [{"text": f"words {row}", "n": row, "more": {"a": [row]}} for row in range(rng.randint(1, 20))]
    if rng.random() < 0.4:
        rows.append(
            rng.choice(({"text": 5}, {"n": "x"}, {}, {"more": []}, {"more": {"a": "b"}}, {"": 1}, {"text": None}))
        )
    return "\n".join(map(json.dumps, rows)).encode()


def parquet_table(rng: random.Random) -> bytes:
    """Columns of many kinds, some that no method takes."""
    import datetime
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    n = rng.randint(0, 12)
    pictures = [image(rng, "PNG") if rng.random() < 0.7 else rng.choice((b"", b"x", None)) for _ in range(n)]
    both = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds: dict[str, Any] = {
        "text": pa.array([f"words {row}" for row in range(n)]),
        "image": pa.array(pictures, pa.binary()),
        "picture": pa.array([{"bytes": data, "path": None} for data in pictures], both),
        "vector": pa.array([[rng.random()] * 3 for _ in range(n)], pa.list_(pa.float32(), 3)),
        "ragged": pa.array([[1.0] * (row % 4) for row in range(n)]),
        "deep": pa.array([[[[row]]] for row in range(n)]),
        "when": pa.array([datetime.datetime(2020, 1, 1)] * n, pa.timestamp("ns")),
        "money": pa.array([decimal.Decimal("1.5")] * n),
        "kind": pa.array(["a"] * n).dictionary_encode(),
        "map": pa.array([[("k", row)] for row in range(n)], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(n),
        "half": pa.array([float("nan")] * n).cast(pa.float32()),
        "big": pa.array([2**63 - 1] * n),
        "": pa.array(range(n), pa.int8()),
        "audio": pa.array([b"RIFF" + rng.randbytes(9) for _ in range(n)], pa.large_binary()),
        "flag": pa.array([True] * n),
        "span": pa.array([datetime.timedelta(1)] * n),
    }
    chosen = rng.sample(list(kinds), rng.randint(1, 5))
    table = pa.table([kinds[name] for name in chosen], names=chosen)
    if rng.random() < 0.1:
        table = pa.table([*table.columns, table.column(0)], names=[*chosen, chosen[0]])
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=rng.choice(("none", "snappy", "zstd")))
    return stream.getvalue()


def arrays(rng: random.Random, packed: bool) -> bytes:
    import numpy as np

    kind = rng.choice(("uint8", "float32", "int64", "float16", "bool", "complex64", "<U3", "datetime64[s]"))
    shape = rng.choice(((6,), (6, 4), (6, 8, 8), (6, 8, 8, 3), (6, 3, 8, 8), (0, 8, 8), (), (2, 2, 2, 2, 2)))
    made = np.zeros(shape, kind)
    stream = io.BytesIO()
    if packed:
        np.savez(stream, image=made, label=np.arange(6))
    else:
        np.save(stream, made)
    return stream.getvalue()


def html_page(rng: random.Random) -> bytes:
    parts = [
        "<!doctype html><html><head><title>A page</title><meta charset=utf-8><script>let a = '<b>';</script></head><body>",
        *(
            f"<div class='c{row}'><p>Words <b>bold {row}</b> and <a href='/x?y={row}'>link</a></p></div>"
            for row in range(rng.randint(1, 12))
        ),
        "<table><tr><td>a<td>b</table><ul><li>one<li>two</ul></body></html>",
    ]
    return "".join(parts).encode()


def plain_text(rng: random.Random) -> bytes:
    return "\n".join(f"Line {row} of a text, with some words: über." for row in range(rng.randint(1, 30))).encode()


def damaged_file(path: Path, kind: str, rng: random.Random) -> None:
    """Damage a file in its place, as its kind asks for."""
    data = path.read_bytes()
    ways = {"json": damaged_json, "text": damaged_text}
    path.write_bytes(ways.get(kind, damaged)(data, rng))
