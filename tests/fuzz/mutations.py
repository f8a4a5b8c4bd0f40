"""Ways to damage a file, and to forge one that says something odd; every choice by a `Random`."""

import csv
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# Sizes at which counters, products of sizes and signs turn over.
INTERESTING = (
    *(0, 1, 2, 3, 4, 7, 8, 9, 10, 16, 27, 28, 29, 32, 63, 64, 100, 127, 128, 255, 256, 257, 512),
    *(784, 1024, 4096, 32767, 32768, 65535, 65536, 10**6, 2**24, 2**28, 2**31 - 1, 2**31),
    *(2**32 - 1, 2**32, 2**40, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
    *(-1, -2, -28, -128, -32768, -(2**31), -(2**63)),
)
DEEP = 3000
Change = Callable[[Random, bytes, Sequence[bytes]], bytes]


def damaged(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """`content` after one to four changes of its bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        content = rng.choice(BYTE_CHANGES)(rng, content, others)
    return content


def flip_bits(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite_run(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, length = _somewhere(rng, content), rng.choice((1, 2, 4, 16, 200))
    fill = rng.choice((b"\0", b"\xff", b"\x7f", b" ", b"0", b"\n", None))
    run = rng.randbytes(length) if fill is None else fill * length
    return content[:start] + run[: len(content) - start] + content[start + length :]


def truncate(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: _somewhere(rng, content)]


def drop_run(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start = _somewhere(rng, content)
    return content[:start] + content[start + rng.choice((1, 2, 3, 4, 16, 200, 3000)) :]


def insert(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, length = _somewhere(rng, content), rng.choice((1, 1, 2, 4, 16, 300))
    run = rng.randbytes(length) if rng.random() < 0.5 else rng.choice((b"\0", b"\xff")) * length
    return content[:start] + run + content[start:]


def repeat_run(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start = _somewhere(rng, content)
    end = start + rng.choice((1, 4, 16, 100, 1000))
    return content[:end] + content[start:end] * rng.choice((1, 2, 10)) + content[end:]


def splice(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another, cut at the same place or anywhere."""
    other, start = rng.choice(others), _somewhere(rng, content)
    return content[:start] + other[start if rng.random() < 0.5 else _somewhere(rng, other) :]


def set_number(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """An interesting integer over some bytes, mostly of the header."""
    form = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    number = struct.pack(form, rng.choice(INTERESTING) % (1 << (8 * size)))
    start = rng.randrange(min(64, len(content)) or 1) if rng.random() < 0.7 else None
    start = _somewhere(rng, content) if start is None else start
    return content[:start] + number + content[start + size :]


BYTE_CHANGES: tuple[Change, ...] = (
    *(flip_bits, flip_bits, overwrite_run, truncate, drop_run),
    *(insert, repeat_run, splice, set_number, set_number),
)


def _somewhere(rng: Random, content: bytes) -> int:
    return rng.randrange(len(content) + 1)


def odd_value(rng: Random, *, nested: bool = True) -> Any:
    """A value that JSON can hold, where another belongs."""
    kind = rng.randrange(10 if nested else 8)
    if kind == 0:
        return rng.choice(INTERESTING)
    if kind == 1:
        return rng.choice((0.0, -0.0, 0.5, 1.0, 1.0000001, -1.5, 1e-320, 1e308, -1e308, 1e-7, 3.0))
    if kind == 2:
        return rng.choice((float("nan"), float("inf"), float("-inf")))
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4:
        return rng.choice((10**20, 10**400, -(10**400), 10**4299, 2**1024))
    if kind in (5, 6):
        return odd_text(rng)
    if kind == 7:
        return rng.choice(([], {}, [0], [[]], {"": ""}))
    if kind == 8:
        return [odd_value(rng, nested=False) for _ in range(rng.randrange(5))]
    return {odd_text(rng): odd_value(rng, nested=False) for _ in range(rng.randrange(4))}


def odd_text(rng: Random) -> str:
    return rng.choice(
        (
            *("", " ", "0", "7", "-1", "1e999", "nan", "1_000", "٣", "x" * 5000, "\ud800", "\0"),
            *("a\x1b[2Jb", "\r\n", "../../etc/passwd", "/dev/zero", "last", "cnn", "cnn-small"),
            *(
                "mlp",
                "ann",
                "model",
                "arch",
                "width",
                "hidden",
                "__class__",
                "🙂",
                "\u202e",
                "[red]",
            ),
        )
    )


def forged_tree(rng: Random, tree: Any) -> Any:
    """A copy of nested dicts and lists with one to three things changed in it."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _change_one(rng, tree)
    return tree


def _change_one(rng: Random, tree: Any) -> Any:
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = node if isinstance(node, dict) else range(min(len(node), 12))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.02:
        return odd_value(rng)
    walk(tree)
    node, key = rng.choice(places)
    deed = rng.randrange(10)
    if deed < 6:
        node[key] = odd_value(rng)
    elif deed == 6:
        del node[key]
    elif deed == 7:
        other, at = rng.choice(places)
        if at in other if isinstance(other, dict) else at < len(other):
            node[key] = json.loads(json.dumps(other[at]))
    elif deed == 8 and isinstance(node, dict):
        node[odd_text(rng)] = rng.choice((node[key], odd_value(rng)))
    elif isinstance(node, list):
        node.insert(key, rng.choice((node[key], odd_value(rng))))
    elif isinstance(node[key], int | float):
        node[key] = rng.choice((node[key] + 1, -node[key], node[key] * 1000, str(node[key])))
    return tree


def forged_json(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A JSON text whose tree is changed, or whose text is odd where no tree can be."""
    text = json.dumps(forged_tree(rng, json.loads(content)))
    deed = rng.randrange(12)
    if deed == 0:
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        depth = rng.choice((50, 400, 900, 970, 990, DEEP, 100_000))
        inner = rng.choice(("1", "", text))
        deep = opening * depth + inner + (closing * depth if rng.random() < 0.8 else "")
        text = deep if rng.random() < 0.3 else _put(rng, text, deep)
    elif deed == 1:
        text = _put(rng, text, rng.choice(("1e999", "-NaN", "9" * 5000, "9" * 4300, "0x10", "01")))
    elif deed == 2:  # the same keys twice
        again = json.dumps(forged_tree(rng, json.loads(content)))
        text = text[:-1] + "," + again[1:] if text[-1:] + again[:1] == "}{" else text + again
    elif deed == 3:
        encoding = rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7"))
        return text.encode(encoding, "surrogatepass")
    return text.encode()


def _put(rng: Random, text: str, value: str) -> str:
    """`value` in place of something that stands between a colon and the next comma."""
    colons = [at for at, character in enumerate(text) if character == ":"]
    if not colons:
        return value
    start = rng.choice(colons) + 1
    end = min(at for at in (text.find(",", start), text.find("}", start), len(text)) if at >= 0)
    return text[:start] + value + text[end:]


TOML_VALUES = (
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "nan", "-inf", "inf", "0x" + "f" * 9000),
    *("9" * 4300, "9" * 4301, "-0.0", "1e400", "true", '"x"', "'\\x1b'", '"\\u001b[2J"', "[]"),
    *("[" * 900 + "]" * 900, "[" * DEEP + "]" * DEEP, "{a=" * 300 + "1" + "}" * 300),
    *('"""\na\n"""', "[[1],[2]]", "{}", "{b=1}", "0b11", "0o17", "1_0", '"\\uD800"', "[1,2,"),
)


def forged_toml(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A TOML text with lines of other values, other keys, tables twice or deeply nested."""
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key, _, value = lines[at].partition("=")
        deed = rng.randrange(8)
        if deed < 4:
            odd = toml_value(rng, odd_value(rng, nested=False))
            lines[at] = f"{key}= {rng.choice((*TOML_VALUES, odd, odd, odd))}"
        elif deed == 4:
            depth = rng.choice((2, 30, 400, 2000, 5000))
            lines[at] = ".".join([key.strip() or "a"] * depth) + f" = {value or 1}"
        elif deed == 5:
            lines.insert(at, rng.choice(("[model]", "[augmentation]", "[[model]]", "[a.b]", "[")))
        elif deed == 6:
            lines.insert(rng.randrange(len(lines)), lines[at])
        else:
            lines[at] = f"{json.dumps(odd_text(rng))} ={value or ' 1'}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def toml_value(rng: Random, value: Any) -> str:
    """A value as TOML writes it; what it cannot write, in some way."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str | dict):
        return json.dumps(value)
    return str(value) if isinstance(value, float | int) else json.dumps(value)


def forged_csv(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A table with other cells, columns or rows."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(rows)
        at = rng.randrange(len(row) or 1)
        deed = rng.randrange(8)
        if deed < 4 and row:
            row[at] = _cell(rng)
        elif deed == 4:
            del row[at : at + rng.choice((1, 1, 99))]
        elif deed == 5:
            row.insert(at, _cell(rng))
        elif deed == 6:
            rows.insert(rng.randrange(len(rows) + 1), rng.choice((list(row), [], [_cell(rng)])))
        elif len(rows) > 1:
            rows.remove(row)
    text = io.StringIO()
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    dialect = rng.choice(("unix", "excel"))  # with quotes around all, or where they must be
    csv.writer(text, dialect, lineterminator=end).writerows(rows)
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))
    return text.getvalue().encode(encoding, "surrogatepass")


def _cell(rng: Random) -> str:
    value = odd_value(rng, nested=False)
    some = (
        "inf",
        "-inf",
        "nan",
        "9" * 5000,
        "1e400",
        "x" * 200_000,
        '"',
        ",",
        "a/" * 3000,
        "~root",
    )
    return rng.choice((str(value), str(value), rng.choice(some), "loop.png", "up/../digit.png"))


def forged_idx(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """An IDX file with another number of axes, other sizes, more or fewer values."""
    num_axes = rng.choice((content[3], content[3], 0, 1, 2, 5, 31, 32, 33, 64, 65, 255))
    few = (0, 1, 2, 3, 7, 28)
    sizes = [rng.choice(rng.choice((few, few, INTERESTING))) % 2**32 for _ in range(num_axes)]
    if rng.random() < 0.4:
        sizes = [1] * num_axes
    kind = rng.choice((8, 8, 8, 8, 0, 9, 11, 13, 14, 255))
    values = content[4 + 4 * content[3] :]
    product = 1
    for size in sizes:
        product *= size
    if product < 100_000 and rng.random() < 0.7:
        values = (values * (product // max(len(values), 1) + 1))[:product]
    values = values[: len(values) - rng.choice((0, 0, 0, 1))]
    return bytes([0, 0, kind, num_axes]) + struct.pack(f">{num_axes}I", *sizes) + values


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG file, kind and data."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of chunks, with the checksums that belong to them."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def forged_png(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A PNG file with a chunk changed, its checksum right; or with other unpacked pixels."""
    chunks = png_chunks(content)
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    deed = rng.randrange(8)
    if deed < 3:
        chunks[at] = (kind, damaged(rng, data, [other[1] for other in chunks]))
    elif deed == 3:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif deed == 4:
        extra = rng.choice((b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"iTXt"))
        bomb = b"x\0\0" + zlib.compress(bytes(rng.choice((10, 3_000_000))))
        junk = rng.choice((rng.randbytes(rng.choice((0, 1, 3, 26, 768))), bomb))
        chunks.insert(rng.randrange(1, len(chunks) + 1), (extra, junk))
    elif deed == 5:
        del chunks[at]
    else:
        chunks = [_other_chunk(rng, *chunk) for chunk in chunks]
    return png(chunks)


def _other_chunk(rng: Random, kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """A header of other sizes or modes, or other pixels packed rightly."""
    if kind == b"IHDR" and len(data) == 13:
        fields = list(struct.unpack(">IIBBBBB", data))
        at = rng.randrange(7)
        few = (0, 1, 2, 3, 4, 6, 8, 16, 20_000, 60_000, 2**31 - 1, 2**32 - 1)
        fields[at] = rng.choice(few) if at < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        return kind, struct.pack(">IIBBBBB", *fields)
    if kind == b"IDAT":
        try:
            pixels = zlib.decompress(data)
        except zlib.error:
            return kind, data
        return kind, zlib.compress(damaged(rng, pixels, [pixels]))
    return kind, data


def forged_tiff(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A TIFF file with fields of its first directory changed: kind, type, count or value."""
    if content[:4] != b"II*\0":
        return damaged(rng, content, others)
    changed = bytearray(content)
    (at,) = struct.unpack_from("<I", changed, 4)
    if at + 2 > len(changed):
        return damaged(rng, content, others)
    (num,) = struct.unpack_from("<H", changed, at)
    for _ in range(rng.choice((1, 1, 2, 3))):
        entry = at + 2 + 12 * rng.randrange(num or 1)
        if entry + 12 > len(changed):
            break
        form, shift = rng.choice((("<H", 0), ("<H", 2), ("<I", 4), ("<I", 8), ("<I", 8), ("<H", 8)))
        few = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 259, 32773, 32946, 34712, 50000, *INTERESTING)
        number = rng.choice(few) % (1 << (8 * struct.calcsize(form)))
        struct.pack_into(form, changed, entry + shift, number)
    if rng.random() < 0.1:  # a directory whose next one is itself, or anywhere
        struct.pack_into("<I", changed, 4, rng.choice((at, 8, len(changed) - 4, 2**32 - 1)))
    return bytes(changed)


def members(content: bytes) -> dict[str, bytes]:
    """The files in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(files: Sequence[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    """A zip archive of files, by name and content, with right checksums; names may come twice."""
    target = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return target.getvalue()
