"""Hypothesis strategies that damage files, and forge files that hold unexpected values."""

import copy
import csv
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from mnistcli.runs.archive import has_valid_tensors
from tests.helpers.forged_archives import (
    DANGEROUS_CALLS,
    RAW_PICKLES,
    Call,
    archive_of_pickle,
    saved,
    unzip_members,
    zip_members,
)

# Where counters, products of sizes and signs overflow.
INTERESTING = (
    *(0, 1, 2, 9, 10, 27, 28, 29, 127, 128, 255, 256, 784, 32_767, 32_768, 65_535, 65_536),
    *(10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**64 - 1),
    *(-1, -128, -(2**31), -(2**63)),
)
ODD_TEXTS = (
    *("", "0", "-1", "1e999", "nan", "x" * 5000, "\ud800", "\0", "a\x1b[2Jb", "\u202e", "[red]"),
    *("../../etc/passwd", "/dev/zero", "last", "cnn", "mlp", "ann", "model", "arch", "hidden"),
)
ODD_NUMBERS = (10**20, 10**400, 1e308, -1e308, 1e-320, -0.0, 1.0000001, 3.0)
ODD_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from((*INTERESTING, *ODD_NUMBERS, *ODD_TEXTS)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    """One of the contents with one to three changes of its bytes."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 3))):
        # Headers are at the beginning.
        start = draw(st.integers(0, min(64, len(content))) | st.integers(0, len(content)))
        end = start + draw(st.sampled_from((1, 2, 4, 16, 200, 3000)))
        before, middle, after = content[:start], content[start:end], content[end:]
        match draw(st.integers(0, 6)):
            case 0:  # flip bits
                mask = 1 << draw(st.integers(0, 7))
                content = before + bytes(byte ^ mask for byte in middle[:1]) + middle[1:] + after
            case 1:
                content = before
            case 2:
                content = before + after
            case 3:
                content = before + draw(st.binary(min_size=1, max_size=16)) + middle + after
            case 4:
                content = before + middle * draw(st.integers(2, 10)) + after
            case 5:  # the end of another file
                content = before + draw(st.sampled_from(contents))[start:]
            case _:
                form = draw(st.sampled_from(("B", "<H", ">H", "<I", ">I", "<Q", ">Q")))
                size = struct.calcsize(form)
                number = draw(st.sampled_from(INTERESTING)) % (1 << (8 * size))
                content = before + struct.pack(form, number) + content[start + size :]
    return content


@st.composite
def forged_tree(draw: st.DrawFn, tree: Any, odd_values: st.SearchStrategy[Any] = ODD_VALUES) -> Any:
    """Nested dicts and lists with one to three values replaced, removed, copied or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        if not places or draw(st.integers(0, 50)) == 50:
            return draw(odd_values)
        node, key = places[draw(st.integers(0, len(places) - 1))]
        source, source_key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 5)):
            case 0:
                del node[key]
            case 1:
                node[key] = copy.deepcopy(source[source_key])
            case 2 if isinstance(node, dict):
                node[draw(st.sampled_from(ODD_TEXTS))] = draw(odd_values)
            case 2:
                node.insert(key, draw(odd_values))
            case 3 if isinstance(node[key], torch.Tensor) and has_valid_tensors(node[key]):
                node[key] = draw(_odd_tensors(node[key]))
            case _:
                node[key] = draw(odd_values)
    return tree


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in nested dicts and lists, as its container and key."""
    keys = list(node) if isinstance(node, dict) else range(min(len(node), 12))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _odd_tensors(tensor: torch.Tensor) -> st.SearchStrategy[torch.Tensor]:
    number = tensor.float()
    dtypes = (torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64, torch.uint8)
    values = (float("nan"), float("inf"), 1e38, -1e38, -1.0, 0.0)
    return st.sampled_from(
        [
            *(tensor.to(dtype) for dtype in dtypes),
            *(torch.full_like(number, value) for value in values),
            tensor.flatten()[:1],
            tensor.unsqueeze(0),
            torch.zeros(0),
            torch.zeros((), dtype=tensor.dtype).expand(tensor.shape),
            torch.zeros((), dtype=tensor.dtype).expand(30_000, 30_000),
            torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"),
            number.to_sparse(),
            number.reshape(1, -1).T.contiguous().T,
        ]
    )


@st.composite
def forged_json(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    """A JSON text with changed values, duplicate keys, deep nesting or another encoding."""
    tree = json.loads(draw(st.sampled_from(contents)))
    text = json.dumps(draw(forged_tree(tree)))
    match draw(st.integers(0, 9)):
        case 0:
            depth = draw(st.sampled_from((400, 900, 990, 3000, 100_000)))
            return f'{{"a":{"[" * depth}{"]" * depth}}}'.encode()
        case 1:
            return f"{text[:-1]}, {json.dumps(tree)[1:]}".encode()
        case 2:
            return text.replace("1", draw(st.sampled_from(("1e999", "-NaN", "9" * 5000)))).encode()
        case 3:
            encoding = draw(st.sampled_from(("utf-8-sig", "utf-16", "utf-32", "utf-7")))
            return text.encode(encoding, "surrogatepass")
    return text.encode()


TOML_VALUES = (
    *("1979-05-27", "07:32:00", "nan", "-inf", "0x" + "f" * 9000, "9" * 4301, "1e400", "true"),
    *('"x"', '"\\u001b[2J"', "[]", "[" * 900 + "]" * 900, "{a=" * 300 + "1" + "}" * 300, "[1,2,"),
    *('"""\na\n"""', "{b=1}", '"\\uD800"', "-0.0", "0", "-1", "1_0"),
)


@st.composite
def forged_toml(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    """A TOML text with other values and keys, and tables that are nested or occur twice."""
    lines = draw(st.sampled_from(contents)).decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, _, value = lines[at].partition("=")
        match draw(st.integers(0, 5)):
            case 0:
                lines[at] = ".".join(["a"] * 2000) + f" = {value or 1}"
            case 1:
                tables = ("[model]", "[augmentation]", "[[model]]", "[a.b]", "[", lines[at])
                lines.insert(at, draw(st.sampled_from(tables)))
            case 2:
                odd_key = json.dumps(draw(st.sampled_from(ODD_TEXTS)))
                lines[at] = f"{odd_key} = {value or 1}"
            case _:
                lines[at] = f"{key} = {draw(st.sampled_from(TOML_VALUES))}"
    return "\n".join(lines).encode()


@st.composite
def forged_csv(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    """A CSV table with other cells, columns, rows, quotes or another encoding."""
    rows = list(csv.reader(io.StringIO(draw(st.sampled_from(contents)).decode())))
    numbers = map(str, (*INTERESTING, *ODD_NUMBERS))
    odd_cells = (*numbers, *ODD_TEXTS, "inf", "9" * 5000, "x" * 200_000, '"', ",", "~root")
    cells = st.sampled_from(odd_cells)
    for _ in range(draw(st.integers(1, 3))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        at = draw(st.integers(0, max(0, len(row) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                del row[at:]
            case 1:
                row.insert(at, draw(cells))
            case 2:
                rows.append(draw(st.sampled_from([list(row), []])))
            case _:
                row[at : at + 1] = [draw(cells)]
    text = io.StringIO()
    dialect = draw(st.sampled_from(("unix", "excel")))
    csv.writer(text, dialect, lineterminator=draw(st.sampled_from("\n\r"))).writerows(rows)
    return text.getvalue().encode(draw(st.sampled_from(("utf-8", "utf-16"))), "surrogatepass")


@st.composite
def forged_png(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    """A PNG file with the data of a chunk damaged, and its checksum corrected."""
    content = draw(st.sampled_from([each for each in contents if each.startswith(b"\x89PNG")]))
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    at = draw(st.integers(0, len(chunks) - 1))
    kind, data = chunks[at]
    if kind == b"IDAT" and draw(st.booleans()):
        data = zlib.compress(draw(damaged([zlib.decompress(data)]))) if len(chunks) < 4 else data
    else:
        data = draw(damaged([data]))
    chunks[at] = (kind, data)
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return content[:8] + b"".join(body)


def forged_archive(contents: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A .pth file with other content, dangerous pickles, or damaged members, checksums correct."""
    calls = st.sampled_from(DANGEROUS_CALLS).map(lambda call: Call(*call))
    trees = [torch.load(io.BytesIO(content), weights_only=True) for content in contents]
    forged_content = st.sampled_from(trees).flatmap(
        lambda tree: forged_tree(tree, ODD_VALUES | calls)
    )
    return (
        forged_content.map(saved)
        | _damaged_member(contents)
        | st.sampled_from(RAW_PICKLES).map(archive_of_pickle)
    )


@st.composite
def _damaged_member(draw: st.DrawFn, contents: Sequence[bytes]) -> bytes:
    members = unzip_members(draw(st.sampled_from(contents)))
    name = draw(st.sampled_from(sorted(members)))
    return zip_members(members | {name: draw(damaged([members[name]]))})
