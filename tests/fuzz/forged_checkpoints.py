"""Checkpoint files that no `save_checkpoint` wrote: odd tensors, odd cards, pickles that run code.

What the pickles would run touches `BAIT`, which must never exist.
"""

import builtins
import collections
import copy
import importlib
import io
import os
import pickle
import struct
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.fuzz.mutations import (
    DEEP,
    INTERESTING,
    archive_of,
    damaged,
    forged_tree,
    members,
    odd_text,
    odd_value,
)

BAIT = Path("executed-by-a-checkpoint")
TOUCH = f"touch {BAIT}"
PYTHON = f"open({str(BAIT)!r}, 'w')"


class Call:
    """Pickled as a call of `function`, and then perhaps as a change of what it gives."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Stored(tuple[Any, ...]):
    """A persistent id: what stands for a storage in data.pkl."""

    __slots__ = ()


class Pickler(pickle._Pickler):
    """Python's own, so that `Stored` becomes a persistent id."""

    def persistent_id(self, obj: Any) -> Any:
        return tuple(obj) if isinstance(obj, Stored) else None


def pickled(content: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(content)
    return buffer.getvalue()


def saved(content: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def archive(pickle_: bytes, **files: bytes) -> bytes:
    """A checkpoint archive around a pickle, with two small storages."""
    usual = {"version": b"3\n", "byteorder": b"little", "data/0": bytes(400), "data/1": bytes(4)}
    files = {"data.pkl": pickle_, **usual, **files}
    return archive_of([(f"archive/{name}", content) for name, content in files.items()])


def storage(rng: Random) -> Stored:
    numbers = (100, 1, 0, 101, 10**9, *INTERESTING)
    kinds = (torch.FloatStorage, torch.DoubleStorage, torch.BoolStorage, torch.FloatTensor, "x", 5)
    right: list[Any] = ["storage", torch.FloatStorage, "0", "cpu", 100]
    if rng.random() < 0.4:
        wrong = (
            rng.choice(("module", "", 5, None)),
            rng.choice(kinds),
            rng.choice(("1", "2", "", "../0", "/etc/passwd", "0/../0", 0, None, "0\0", "x" * 9999)),
            rng.choice(("cuda", "cuda:99", "meta", "nowhere", "mps", 3, None, "")),
            rng.choice(numbers),
        )
        at = rng.randrange(5)
        right[at] = wrong[at]
        if rng.random() < 0.1:
            right = right[: rng.randrange(5)]
    return Stored(right)


def odd_argument(rng: Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 2 else 6)
    if kind == 0:
        return rng.choice(INTERESTING)
    if kind == 1:
        return tuple(
            rng.choice((0, 1, 2, 10, -1, 2**31, 2**40, 2**62)) for _ in range(rng.randrange(4))
        )
    if kind == 2:
        return rng.choice((None, True, False, 0.5, "", "cpu", "x", b"", b"abc"))
    if kind == 3:
        return rng.choice(
            (torch.float32, torch.int64, torch.complex64, torch.quint8, torch.strided)
        )
    if kind == 4:
        return storage(rng)
    if kind == 5:
        return rng.choice((torch.per_tensor_affine, torch.sparse_coo, torch.sparse_csr, torch.int8))
    if kind == 6:
        return [odd_argument(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {odd_text(rng): odd_argument(rng, depth + 1)}
    return rebuilt(rng, depth + 1)


def rebuilt(rng: Random, depth: int = 0) -> Call:
    """A call of one of the functions that PyTorch allows in a checkpoint, its arguments odd."""
    utils = torch._utils
    dense = [storage(rng), 0, (10, 10), (10, 1), False, collections.OrderedDict()]
    forms: list[tuple[Any, list[Any]]] = [
        (utils._rebuild_tensor_v2, list(dense)),
        (utils._rebuild_tensor_v2, list(dense)),
        (utils._rebuild_tensor_v2, list(dense)),
        (utils._rebuild_tensor, dense[:4]),
        (utils._rebuild_tensor_v3, [*dense, torch.float32]),
        (utils._rebuild_meta_tensor_no_storage, [torch.float32, (10, 10), (10, 1), False]),
        (torch._tensor._rebuild_from_type_v2, [_plain, torch.Tensor, tuple(dense), {"a": 1}]),
    ]
    if depth < 2:
        inner = rebuilt(rng, depth + 1)
        forms += [
            (utils._rebuild_parameter, [inner, True, collections.OrderedDict()]),
            (utils._rebuild_parameter_with_state, [inner, True, collections.OrderedDict(), {}]),
            (utils._rebuild_sparse_tensor, [torch.sparse_coo, (inner, inner, (10, 10), True)]),
            (utils._rebuild_sparse_tensor, [torch.sparse_csr, (inner, inner, inner, (9, 9))]),
            (utils._rebuild_nested_tensor, [inner, inner, inner, inner]),
            (utils._rebuild_wrapper_subclass, [torch.Tensor, torch.float32, (10,), (1,), 0]),
            (
                utils._rebuild_qtensor,
                [*dense[:4], (torch.per_tensor_affine, 0.5, 3), False, dense[5]],
            ),
        ]
    function, args = rng.choice(forms)
    for _ in range(rng.choice((0, 1, 1, 2))):
        args[rng.randrange(len(args))] = odd_argument(rng, depth + 1)
    if rng.random() < 0.05:
        args = args[: rng.randrange(len(args) + 1)]
    state = None
    if rng.random() < 0.1:
        name = rng.choice(("isfinite", "data", "shape", "dtype", "__class__", "float", "is_cpu"))
        state = rng.choice(({name: odd_argument(rng, 2)}, (None, {name: 5}), odd_argument(rng, 2)))
    return Call(function, *args, state=state)


_plain = torch._utils._rebuild_tensor_v2


def dangerous(rng: Random) -> Call:
    """A call that would run code."""
    return Call(*rng.choice(dangers()))


def dangers() -> list[tuple[Any, ...]]:
    """Functions with the arguments with which they would leave the bait, or read a file."""
    return [
        (os.system, TOUCH),
        (os.popen, TOUCH),
        (subprocess.Popen, ["touch", str(BAIT)]),
        (subprocess.check_output, ["touch", str(BAIT)]),
        (builtins.exec, PYTHON),
        (builtins.eval, PYTHON),
        (builtins.open, str(BAIT), "w"),
        (builtins.getattr, "os", "upper"),
        (builtins.__import__, "antigravity"),
        (builtins.compile, PYTHON, "", "exec"),
        (importlib.import_module, "this"),
        (Path.touch, BAIT),
        (Path.read_text, Path("/etc/passwd")),
        (os.mkdir, str(BAIT)),
        (pickle.loads, pickle.dumps(Call(os.system, TOUCH))),
        (torch.load, "/etc/passwd"),
        (torch.storage._load_from_bytes, pickle.dumps(Call(os.system, TOUCH))),
        (torch.hub.load, "a/b", "c"),
        (torch.save, 1, str(BAIT)),
        (torch.from_file, str(BAIT), True, 10),
        (torch.UntypedStorage.from_file, str(BAIT), True, 10),
        (torch.set_default_dtype, torch.float16),
        (torch.serialization.add_safe_globals, [os.system]),
        (bytearray, 2**40),
        (bytes, 2**40),
        (range, 2**62),
        (collections.Counter, "a"),
        (torch.Size, [2**62]),
        (torch.zeros, 2**40),
        (torch.empty, 2**40),
        (torch.nn.Linear, 2**20, 2**20),
    ]


# Opcodes as text: what Python's own pickler never writes.
RAW_PICKLES = (
    b"cos\nsystem\n(S'touch %b'\ntR." % str(BAIT).encode(),
    b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00touch\x85R.",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x05touch\x85R.",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
    b"(S'touch x'\nios\nsystem\n.",
    b"(cos\nsystem\nS'touch x'\no.",
    b"\x80\x02c__builtin__\neval\n(S'1'\ntR.",
    b"\x80\x04\x8c\x05torch\x8c\x0bhub.os.fork\x93)R.",
    b"\x80\x02ctorch._utils\nos.system\n(X\x01\0\0\0xtR.",
    b"\x80\x02\x82\x01.",  # EXT1
    b"\x80\x02P0\n.",  # a persistent id as text
    b"\x80\x02X\xff\xff\xff\xffx.",  # texts and numbers longer than the file
    b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    b"\x80\x02r" + struct.pack("<I", 2**32 - 1) + b".",
    b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
    b"\x80\x02" + b"]" * DEEP * 30 + b"a" * (DEEP * 30 - 1) + b".",
    b"\x80\x02" + b"N" + b"\x85" * DEEP * 30 + b".",
    b"\x80\x02]" + b"q\x00(h\x00h\x00e" * 40 + b".",
    b"\x80\x02}" + b"q\x00h\x00h\x00s" + b".",
    b"\x80\x02].",
    b".",
    b"\x80\x07N.",
    b"",
)


def forged(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A checkpoint file of another content than any training run would give it."""
    try:
        return rng.choice(WAYS)(rng, content)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return archive(rng.choice(RAW_PICKLES))  # what PyTorch itself cannot make or save


def forged_state(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A state.pth with anything in its tree changed, or its archive."""
    try:
        if rng.random() < 0.3:
            return _other_archive(rng, content)
        tree = torch.load(io.BytesIO(content), weights_only=True)
        for _ in range(rng.choice((1, 1, 2, 3))):
            _change_any(rng, tree)
        return saved(tree)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return archive(rng.choice(RAW_PICKLES))


def _change_any(rng: Random, tree: Any) -> None:
    """Change something somewhere in nested dicts and lists of numbers, texts and tensors."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(tree)
    node, key = rng.choice(places)
    other, at = rng.choice(places)
    value = node[key]
    deed = rng.randrange(8)
    if deed == 0:
        del node[key]
    elif deed == 1:
        node[key] = copy.deepcopy(other[at])
    elif deed == 2 and isinstance(node, dict):
        node[rng.choice((odd_text(rng), 5, -1, 99, None))] = copy.deepcopy(other[at])
    elif deed == 3 and isinstance(node, list):
        node.insert(key, copy.deepcopy(other[at]))
    elif isinstance(value, torch.Tensor):
        node[key] = _other_tensor(rng, value)
    else:
        node[key] = odd_value(rng)


def _other_tree(rng: Random, content: bytes) -> bytes:
    """The card, or all of the content, changed and saved as PyTorch saves."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    card = forged_tree(rng, tree["card"])
    if rng.random() < 0.1:
        card = rng.choice(([card], None, tree["weights"], "card", torch.zeros(3), _doubled(20)))
    tree["card"] = card
    if rng.random() < 0.05:
        tree = rng.choice((card, [tree], tree["weights"], torch.zeros(2), 5, None, odd_value(rng)))
    return saved(tree)


def _doubled(times: int) -> list[Any]:
    """A list that is small in memory and huge to whoever walks it."""
    nested: list[Any] = []
    for _ in range(times):
        nested = [nested, nested]
    return nested


def _other_sizes(rng: Random, content: bytes) -> bytes:
    """A card whose network has the sizes of tensors that take no room in the file."""
    from mnistcli.models.registry import build_on_meta

    tree = torch.load(io.BytesIO(content), weights_only=True)
    hidden = [rng.choice((1, 100, 30_000, 65_536)) for _ in range(rng.choice((1, 2, 8, 32)))]
    model: dict[str, Any] = {"hidden": hidden, "dropout": 0.0}
    tree["card"]["settings"]["model"] = {"arch": "mlp", **model}
    tree["card"]["input_px"] = 28
    dtype = rng.choice((torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8))
    tree["weights"] = {
        name: _thin(rng, tensor.shape, dtype)
        for name, tensor in build_on_meta("mlp", model).state_dict().items()
    }
    return saved(tree)


def _thin(rng: Random, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    if rng.random() < 0.1:
        return torch.empty(shape, dtype=dtype, device="meta")
    return torch.zeros(1, dtype=dtype).expand(shape)


def _other_weights(rng: Random, content: bytes) -> bytes:
    """Weights of other types, shapes, layouts, values, names."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    weights = tree["weights"]
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(sorted(weights, key=str))
        deed = rng.randrange(12)
        if deed == 0:
            del weights[name]
        elif deed == 1:
            weights[rng.choice((odd_text(rng), 5, None, ("a",), b"x"))] = weights[name]
        elif deed == 2:
            other = rng.choice(sorted(weights, key=str))
            weights[name], weights[other] = weights[other], weights[name]
        elif isinstance(weights[name], torch.Tensor):
            weights[name] = _other_tensor(rng, weights[name])
        if not weights:
            break
    if rng.random() < 0.1:
        tree["weights"] = rng.choice((list(weights.items()), [*weights], None, 5, {}, "weights"))
    if rng.random() < 0.1:
        ordered = collections.OrderedDict(weights)
        metadata: Any = rng.choice(({"": {"version": odd_value(rng)}}, 5, {"": 5}, [1], {"": {}}))
        ordered._metadata = metadata  # type: ignore[attr-defined]
        tree["weights"] = ordered
    return saved(tree)


def _other_tensor(rng: Random, tensor: torch.Tensor) -> Any:
    dtypes = (
        *(torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.uint8),
        *(torch.bool, torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex32),
    )
    values = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-45, -1.0, 0.0, 1e20)
    makes: list[Callable[[], Any]] = [
        lambda: tensor.to(rng.choice(dtypes)),
        lambda: tensor.to(rng.choice(dtypes)),
        lambda: torch.full_like(tensor.float(), rng.choice(values)),
        lambda: torch.full_like(tensor.float(), rng.choice(values)),
        lambda: tensor.flatten()[0],
        lambda: tensor.unsqueeze(0),
        lambda: torch.zeros(rng.choice(((0,), (1,), (10,), (3, 0), (1, 1, 1, 1)))),
        lambda: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape),
        lambda: torch.zeros((), dtype=tensor.dtype).expand(30_000, 30_000),
        lambda: torch.as_strided(tensor, tensor.shape, tuple(0 for _ in tensor.shape)),
        lambda: tensor.float().to_sparse(),
        lambda: tensor.float().reshape(1, -1).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: torch.empty(tensor.shape, device="meta"),
        lambda: torch.nn.Parameter(tensor.float(), requires_grad=True),
        lambda: torch.nn.Buffer(tensor.float()),
        tensor.tolist,
        lambda: tensor.mT if tensor.dim() > 1 else tensor.flip(0) if tensor.dim() else tensor,
        lambda: torch.conj(tensor.to(torch.complex64)),
        lambda: torch._neg_view(tensor.float()),
        lambda: odd_value(rng),
        lambda: torch.float32,
        lambda: torch.Size([1, 2]),
    ]
    return rng.choice(makes)()


def _other_archive(rng: Random, content: bytes) -> bytes:
    """The same archive with members changed, missing, renamed, added, packed or twice."""
    files = list(members(content).items())
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(files)) if rng.random() < 0.5 else 0
        name, body = files[at]
        deed = rng.randrange(8)
        if deed < 3:
            files[at] = (name, damaged(rng, body, [other[1] for other in files]))
        elif deed == 3 and len(files) > 1:
            del files[at]
        elif deed == 4:
            stem = name.rpartition("/")[2]
            odd = ("../" * 8 + "tmp/x", "/etc/x", "", "archive//" + stem, "other/" + stem, "a\\b")
            files[at] = (rng.choice((*odd, "archive/constants.pkl", "archive/code/x.py")), body)
        elif deed == 5:
            files.append((name, rng.choice((body, damaged(rng, body, [body])))))
        elif deed == 6:
            odd_orders = (b"big", b"middle", b"", b"little ", bytes(100))
            files.append(("archive/byteorder", rng.choice(odd_orders)))
            files = [each for each in files[:-1] if each[0] != "archive/byteorder"] + files[-1:]
        else:
            files.append(("archive/data/999", bytes(rng.choice((0, 10, 10**6)))))
    return archive_of(files, packed=rng.random() < 0.3)


def _odd_pickle(rng: Random, content: bytes) -> bytes:
    """An archive, or a bare file, whose pickle calls what it should not, or calls it oddly."""
    tree: Any = torch.load(io.BytesIO(content), weights_only=True)
    card, names = tree["card"], list(tree["weights"])
    make = rng.choice((rebuilt, rebuilt, rebuilt, dangerous))
    weights: Any = collections.OrderedDict((name, make(rng)) for name in names)
    deed = rng.randrange(6)
    if deed == 0:
        body = rng.choice(RAW_PICKLES)
    elif deed == 1:
        places = (make(rng), [make(rng)], {"card": make(rng), "weights": weights})
        body = _tried(rng, rng.choice(places))
    else:
        if deed == 2:
            card = copy.deepcopy(card)
            card[rng.choice(sorted(card))] = make(rng)
        body = _tried(rng, {"card": card, "weights": weights})
    if rng.random() < 0.2:
        body = damaged(rng, body, [body])
    return archive(body) if rng.random() < 0.8 else body


def _tried(rng: Random, content: Any) -> bytes:
    try:
        return pickled(content, rng.choice((2, 2, 2, 4)))
    except (pickle.PicklingError, TypeError, AttributeError):  # bound methods and modules
        return rng.choice(RAW_PICKLES)


def _bomb(rng: Random, content: bytes) -> bytes:
    """An archive that is small while packed."""
    pickle_ = members(content)["archive/data.pkl"]
    size = rng.choice((10**6, 10**8, 10**9) if rng.random() < 0.1 else (10**6,))
    name = rng.choice(("archive/data/0", "archive/data.pkl", "archive/byteorder"))
    packed = archive_of([("archive/data.pkl", pickle_), (name, bytes(size))], packed=True)
    # Names in the directory at the end that stand for one member, many times over.
    return packed if rng.random() < 0.7 else damaged(rng, packed[-2000:], [packed])


def _old_format(rng: Random, content: bytes) -> bytes:
    """PyTorch's formats before zip archives: pickles one after another, and tar."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    if rng.random() < 0.6:
        old = saved(tree, zipped=False)
        return old if rng.random() < 0.2 else damaged(rng, old, [old, content])
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors", "../../escaped"):
            body = rng.choice((*RAW_PICKLES[:8], pickled(Call(os.system, TOUCH))))
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return target.getvalue()


def _torchscript(rng: Random, content: bytes) -> bytes:
    """The members that make PyTorch take an archive for TorchScript."""
    body = members(content)["archive/data.pkl"]
    files = {"constants.pkl": rng.choice((b"\x80\x02).", body)), "code/__torch__.py": b"op_version"}
    return archive(body, **files)


WAYS: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_other_tree, _other_tree, _other_weights, _other_weights, _other_weights),
    *(_other_archive, _other_archive, _odd_pickle, _odd_pickle, _odd_pickle),
    *(_other_sizes, _bomb, _old_format, _torchscript),
)
