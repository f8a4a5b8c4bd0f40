"""The readers of files from outside: right files for each, damaged ones, and what must hold.

A check reads one input. It returns if the result is right, raises an `MnistError` if the
input is refused, and anything else if the reader is wrong.
"""

import gzip
import hashlib
import io
import itertools
import json
import math
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnistcli.config.recipes import RECIPES, get_recipe
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.config.sources import read_config
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Mistake, Score, read_score
from mnistcli.models.registry import build_network, build_on_meta, get_architecture
from mnistcli.runs.checkpoint import (
    BUNDLED_CHECKPOINT,
    CheckpointCard,
    LoadedModel,
    load_checkpoint,
    save_checkpoint,
)
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.history import EpochResult, read_metrics, write_metrics
from mnistcli.runs.saved_state import SavedState, read_state, save_state
from mnistcli.training.state import TrainState
from tests.fuzz import mutations
from tests.fuzz.mutations import Change, damaged
from tests.helpers.audit import reading


class Input(NamedTuple):
    """The content of a file, and how it came to be: the name of a change, and of a suffix."""

    how: str
    content: bytes


@dataclass(frozen=True)
class Reader:
    """`seeds` are right files by kind; `changes` say how they are changed, each as often."""

    seeds: Callable[[], dict[str, list[bytes]]]
    changes: dict[str, Sequence[Change]]
    check: Callable[[str, bytes, Path], None]

    def draw(self, rng: Random) -> Input:
        """An input: a kind of file, a seed of it, a change."""
        kind = rng.choice(list(self.seeds()))
        seeds = self.seeds()[kind]
        change = rng.choice(self.changes[kind])
        how = f"{kind}-{change.__name__.lstrip('_')}"
        return Input(how, change(rng, rng.choice(seeds), seeds))


def _idx_bytes(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


@cache
def _idx_seeds() -> dict[str, list[bytes]]:
    rng = np.random.default_rng(0)
    shapes = [(5, 28, 28), (5,), (0, 28, 28), (2, 3, 4, 5), (1, 1)]
    return {"idx": [_idx_bytes(rng.integers(0, 256, shape, np.uint8)) for shape in shapes]}


def _check_idx(how: str, content: bytes, folder: Path) -> None:
    from mnistcli.data.idx import read_idx

    array = read_idx(content, name="some-idx3-ubyte")
    num_axes = content[3]
    shape = struct.unpack(f">{num_axes}I", content[4 : 4 + 4 * num_axes])
    assert array.dtype == np.uint8
    assert array.shape == shape
    assert array.flags.c_contiguous
    assert array.flags.owndata
    assert array.tobytes() == content[4 + 4 * num_axes :]


@cache
def _gz_seeds() -> dict[str, list[bytes]]:
    images, labels = np.full((5, 28, 28), 7, np.uint8), np.arange(5, dtype=np.uint8)
    return {name: [gzip.compress(_idx_bytes(values), mtime=0)] for name, values in
            (("images", images), ("labels", labels))}  # fmt: skip


def _check_gz(how: str, content: bytes, folder: Path) -> None:
    """A published data set of five pictures, one of whose files was changed after its download."""
    from mnistcli.data.checksums import DataFile
    from mnistcli.data.datasets import get_dataset, load_dataset

    seeds = {name: contents[0] for name, contents in _gz_seeds().items()}
    files = tuple(
        DataFile(name, hashlib.md5(seeds[name], usedforsecurity=False).hexdigest())
        for name in ("images", "labels")
    )
    tiny = replace(get_dataset("mnist"), folder="Tiny", files=files * 2)
    raw = folder / "Tiny" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, right in seeds.items():
        (raw / f"{name}.gz").write_bytes(content if how.startswith(name) else right)
    with reading(folder):
        examples = load_dataset(tiny, "train", folder)
    assert examples.labels_N.tolist() == [0, 1, 2, 3, 4]
    assert bool((examples.images_NHW == 7).all())


def _settings(recipe: str, **flags: Any) -> TrainSettings:
    return resolve_settings({"recipe": recipe, **flags}, environ={}).settings


def _card(settings: TrainSettings) -> CheckpointCard:
    return CheckpointCard(
        settings=settings,
        classes=tuple("0123456789"),
        mean=0.13,
        std=0.3,
        input_px=get_architecture(settings.arch).input_px,
        epoch=3,
        val_accuracy=0.5,
        versions={"torch": "2"},
    )


@cache
def _checkpoint_seeds() -> dict[str, list[bytes]]:
    """Networks of every architecture, as small as they can be; the bundled one."""
    import tempfile

    import torch

    torch.manual_seed(0)
    small = (
        _settings("mlp-50-50", hidden=[3]),
        _settings("cnn-26k", channels=[2, 2], hidden=[4]),
        _settings("cnn-small", width=1),
        _settings("cnn-deep", channels=[1, 1]),
        _settings("ann", hidden=[1]),
    )
    contents = [BUNDLED_CHECKPOINT.read_bytes()]
    with tempfile.TemporaryDirectory() as folder:
        for settings in small:
            network = build_network(settings.arch, settings.network)
            save_checkpoint(Path(folder) / "x.pth", network, _card(settings))
            contents.append((Path(folder) / "x.pth").read_bytes())
    return {"pth": contents}


def _fingerprint(loaded: LoadedModel) -> tuple[str, bytes]:
    weights = loaded.network.state_dict()
    parts = [name.encode() + tensor.numpy().tobytes() for name, tensor in weights.items()]
    return loaded.card.model_dump_json(), hashlib.sha256(b"".join(parts)).digest()


@cache
def _right_fingerprints(folder: Path) -> frozenset[tuple[str, bytes]]:
    found = set()
    for content in _checkpoint_seeds()["pth"]:
        (folder / "right.pth").write_bytes(content)
        found.add(_fingerprint(load_checkpoint(folder / "right.pth")))
    return frozenset(found)


def _check_checkpoint(how: str, content: bytes, folder: Path) -> None:
    import torch

    from mnistcli.reading.pipeline import DigitImage
    from mnistcli.reading.predict import predict_digits

    right = _right_fingerprints(folder)
    path = folder / "input.pth"
    path.write_bytes(content)
    try:
        with reading(path):
            loaded = load_checkpoint(path)
    finally:
        _no_traces(folder)
    card, weights = loaded.card, loaded.network.state_dict()
    assert CheckpointCard.model_validate(card.model_dump()) == card
    assert len(set(card.classes)) == 10
    expected = build_on_meta(card.settings.arch, card.settings.network).state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert type(tensor) in (torch.Tensor, torch.nn.Parameter)
        assert tensor.dtype == expected[name].dtype, name
        assert tensor.shape == expected[name].shape
        assert tensor.is_contiguous()
        assert tensor.device.type == "cpu"
        assert tensor.isfinite().all()
    if how.endswith("-damaged"):  # its checksums tell; what is forged may say what it likes
        assert _fingerprint(loaded) in right, "damaged, and read as something else"
    digit = DigitImage(np.tile(np.arange(28, dtype=np.uint8) * 9, (28, 1)), (0, 0, 28, 28))
    [[read]] = predict_digits([loaded], [[((digit,),)]])
    assert len(read.top(10)) == 10
    assert math.isclose(sum(read.probabilities.values()), 1, rel_tol=1e-4)
    _ = read.doubt


def _no_traces(folder: Path) -> None:
    from tests.fuzz.forged_checkpoints import BAIT

    for place in (Path(), folder):
        assert not (place / BAIT).exists(), "a checkpoint ran code"


STATE_RECIPES = {
    "adam": _settings("mlp-50-50", hidden=[3], epochs=2, ema=0.9),
    "sgd": _settings("cnn-26k", channels=[2], hidden=[], optimizer="sgd", schedule="plateau"),
    "norms": _settings("cnn-small", width=1, optimizer="adamw", schedule="onecycle", epochs=3),
}


def _train_state(kind: str) -> Any:

    settings = STATE_RECIPES[kind]
    return TrainState(settings, num_examples=32, device="cpu", precision="float32")


@cache
def _state_seeds() -> dict[str, list[bytes]]:
    """Two epochs of a tiny network, kept as a run keeps them."""
    import tempfile

    import torch

    from mnistcli.data.examples import Examples
    from mnistcli.data.normalization import Normalization
    from mnistcli.training.engine import fit

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 28, 28), dtype=torch.uint8, generator=generator)
    examples = Examples(images, torch.arange(32) % 10)
    found = {}
    for kind, settings in STATE_RECIPES.items():
        state, history = _train_state(kind), []
        normalization = Normalization(0.13, 0.3, 28)
        for epoch in fit(state, examples, examples, normalization):
            history.append(replace(epoch, seconds=1.0, images_per_second=1.0))
            if len(history) == 2:
                break
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder))
            saved = SavedState(settings=settings, history=history, state=state.state_dict())
            save_state(run, saved)
            found[kind] = [run.state.read_bytes()]
        assert settings.epochs >= 2
    return found


def _plain(value: Any) -> Any:
    """Nested values in which tensors are their bytes, so that they can be compared."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else value


@cache
def _right_state(kind: str, folder: Path) -> Any:
    run = Run(folder)
    run.state.write_bytes(_state_seeds()[kind][0])
    saved = read_state(run, STATE_RECIPES[kind])
    assert saved
    return _plain(saved.state), saved.history


def _check_state(how: str, content: bytes, folder: Path) -> None:
    """A state is read, and taken up by the training it is of."""
    import torch

    kind = how.partition("-")[0]
    kind = kind if kind in STATE_RECIPES else "adam"
    right, run = _right_state(kind, folder), Run(folder)
    run.state.write_bytes(content)
    try:
        with reading(folder):
            saved = read_state(run, STATE_RECIPES[kind])
            assert saved
            state = _train_state(kind)
            state.load_state_dict(saved.state)
    finally:
        _no_traces(folder)
    if how.endswith("-damaged"):
        assert (_plain(saved.state), saved.history) == right, "damaged, and read as something else"
    assert state.num_epochs_done == len(saved.history)
    assert [epoch.epoch for epoch in saved.history] == list(range(1, len(saved.history) + 1))
    for name, tensor in state.eval_model.state_dict().items():
        assert tensor.isfinite().all(), name
    # One step more must work, whatever its numbers.
    x_NCHW = torch.zeros(2, 1, 28, 28)
    torch.nn.functional.cross_entropy(state.model(x_NCHW), torch.tensor([1, 2])).backward()
    state.optimizer.step()
    if state.ema:
        state.ema.update()


@cache
def _settings_seeds() -> dict[str, list[bytes]]:
    records = [_settings(name).model_dump(mode="json") for name in RECIPES]
    fancy = _settings("cnn-10-20", augment=True, label_smoothing=0.1, val_size=0).model_dump()
    tables = [{key: record[key] for key in ("recipe", "epochs", "model")} for record in records]
    return {
        "json": [json.dumps(record).encode() for record in (*records, fancy, *tables[:2])],
        "toml": [_toml(record) for record in (*records, fancy)],
    }


def _toml(record: dict[str, Any]) -> bytes:
    tables = {name: value for name, value in record.items() if isinstance(value, dict)}
    lines = [_toml_line(*item) for item in record.items() if item[0] not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *itertools.starmap(_toml_line, table.items())]
    return "\n".join(line for line in lines if line).encode()


def _toml_line(name: str, value: Any) -> str:
    return "" if value is None else f"{name} = {mutations.toml_value(Random(0), value)}"


def _check_settings(how: str, content: bytes, folder: Path) -> None:
    path = folder / f"input.{how[:4]}"
    path.write_bytes(content)
    with reading(path):
        read_config(path)
        settings = resolve_settings({}, config=path, environ={}).settings
    _check_train_settings(settings)
    assert get_recipe(settings.recipe).arch == settings.arch
    fitting = fit_budget(settings)
    build_on_meta(fitting.arch, fitting.network)


def _check_train_settings(settings: TrainSettings) -> None:
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
    numbers = [value for value in settings.model_dump().values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))


@cache
def _run_settings_seeds() -> dict[str, list[bytes]]:
    return {"json": _settings_seeds()["json"][:-2]}


def _check_run_settings(how: str, content: bytes, folder: Path) -> None:
    path = folder / "settings.json"
    path.write_bytes(content)
    with reading(path):
        settings = read_settings(Run(folder))
    _check_train_settings(settings)


@cache
def _metrics_seeds() -> dict[str, list[bytes]]:
    import tempfile

    epochs = [EpochResult(n, 0.1 / n, 1 / n, 0.9, 1.1 / n, 0.8, 2.5, 1e4) for n in range(1, 6)]
    blind = [replace(epoch, val_loss=None, val_accuracy=None) for epoch in epochs]
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for each in (epochs, blind, epochs[:1]):
            write_metrics(Run(Path(folder)), each)
            contents.append((Path(folder) / "metrics.csv").read_bytes())
    return {"csv": contents}


def _check_metrics(how: str, content: bytes, folder: Path) -> None:
    from mnistcli.plots.curves import Curve
    from mnistcli.runs.history import best_epoch

    path = folder / "metrics.csv"
    path.write_bytes(content)
    with reading(path):
        epochs = read_metrics(Run(folder))
    assert epochs
    for epoch in epochs:
        assert isinstance(epoch.epoch, int)
        assert 1 <= epoch.epoch <= 10_000
        values = [value for value in asdict(epoch).values() if value is not None]
        assert all(math.isfinite(value) and value >= 0 for value in values)
        for share in (epoch.train_accuracy, epoch.val_accuracy):
            assert share is None or 0 <= share <= 1
        assert (epoch.val_loss is None) == (epoch.val_accuracy is None)
    numbers = [epoch.epoch for epoch in epochs]
    assert numbers == sorted(set(numbers))
    best_epoch(epochs)
    Curve.read("run", epochs)


@cache
def _record_seeds() -> dict[str, list[bytes]]:
    score = Score(
        checkpoint="runs/x/best.pth",
        dataset="digits",
        split="test",
        num_images=12,
        num_errors=1,
        loss=0.25,
        accuracy=11 / 12,
        interval=(0.6, 0.99),
        classes=[ClassScore(name, 1, 0.5, 1.0, 0.75) for name in "0123456789"],
        confusion=[[int(i == k) for k in range(10)] for i in range(10)],
        mistakes=[Mistake(3, 1, 2, 0.9, 0.05)],
        bins=[ConfidenceBin(12, 11 / 12, 0.9)],
    )
    score.confusion[1][1], score.confusion[1][2] = 2, 1
    record = {"schema_version": 1, **asdict(score)}
    small = {"started": "2026-01-01", "versions": {"torch": "2"}, "device": {"value": "cpu"}}
    return {"score": [json.dumps(record).encode()], "environment": [json.dumps(small).encode()]}


def _check_record(how: str, content: bytes, folder: Path) -> None:
    from mnistcli.evaluation.metrics import class_scores

    name = "eval-digits-test.json" if how.startswith("score") else "environment.json"
    path = folder / name
    path.write_bytes(content)
    with reading(path):
        record = read_record(Run(folder), name)
    assert type(record) is dict
    if not how.startswith("score"):
        return
    with reading(path):
        score = read_score(Run(folder), "digits", "test")
    assert score is not None
    counts_KK = np.array(score.confusion)
    assert counts_KK.dtype == np.int64
    assert counts_KK.shape == (len(score.classes),) * 2
    assert len(score.classes) == 10
    assert (counts_KK >= 0).all()
    assert counts_KK.sum() == score.num_images >= 1
    assert counts_KK.trace() == score.num_images - score.num_errors
    low, high = score.interval
    assert 0 <= low <= high <= 1
    assert 0 <= score.accuracy <= 1
    assert math.isfinite(score.loss)
    for mistake in score.mistakes:
        assert 0 <= mistake.index < score.num_images
        assert 0 <= mistake.label < 10 > mistake.predicted >= 0
        assert 0 <= mistake.probability <= 1 >= mistake.label_probability >= 0
    names = tuple(each.name for each in score.classes)
    class_scores(counts_KK, names)
    for text in (score.checkpoint, score.dataset, *names):
        text.encode()


def _page(mode: str, *, side: int = 48) -> Image.Image:
    """A seven, dark on light, in any of Pillow's modes."""
    page = Image.new("L", (side, side + 6), 235)
    page.paste(20, (12, 12, 36, 17))
    page.paste(20, (26, 12, 31, 42))
    if mode == "I;16":
        return Image.fromarray(np.asarray(page).astype(np.uint16) * 257)
    if mode == "RGBA":
        page = page.convert("RGBA")
        page.putalpha(Image.linear_gradient("L").resize(page.size))
        return page
    if mode == "LAB":
        return page.convert("RGB").convert("LAB", None)
    return page.convert("RGB" if mode == "CMYK" else mode).convert(mode)


def _encoded(mode: str, format_: str, **options: Any) -> bytes:
    target = io.BytesIO()
    if options.pop("frames", False):
        options |= {
            "save_all": True,
            "append_images": [_page(mode).rotate(angle) for angle in (90, 180)],
        }
    _page(mode).save(target, format_, **options)
    return target.getvalue()


@cache
def _picture_seeds() -> dict[str, list[bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    tiffs = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    return {
        "png": [
            *(_encoded(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
            _encoded("P", "PNG", transparency=3),
            _encoded("RGB", "PNG", exif=exif),
            _encoded("RGBA", "PNG", frames=True, duration=10),
        ],
        "jpeg": [
            *(_encoded(mode, "JPEG", quality=80) for mode in ("L", "RGB", "CMYK")),
            _encoded("RGB", "JPEG", progressive=True, exif=exif, icc_profile=b"x" * 300),
        ],
        "gif": [_encoded("L", "GIF"), _encoded("P", "GIF", frames=True, transparency=1)],
        "bmp": [_encoded(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")],
        "tiff": [
            *(_encoded("L", "TIFF", compression=name) for name in tiffs),
            *(_encoded(mode, "TIFF") for mode in ("I", "F", "I;16", "CMYK", "RGBA", "P", "LA")),
            *(
                _encoded("1", "TIFF", compression=name)
                for name in ("group3", "group4", "tiff_ccitt")
            ),
            _encoded("RGB", "TIFF", compression="jpeg"),
            _encoded("L", "TIFF", frames=True),
            _encoded("F", "TIFF", compression="tiff_lzw"),
        ],
        "webp": [
            *(_encoded(mode, "WEBP", lossless=True) for mode in ("RGB", "RGBA")),
            _encoded("RGB", "WEBP", exif=exif),
            _encoded("RGBA", "WEBP", frames=True),
        ],
    }


def _check_picture(how: str, content: bytes, folder: Path) -> None:
    from mnistcli.reading.decode import MAX_PIXELS, WORKING_SIDE_PX, decode_picture
    from mnistcli.reading.pipeline import run_pipeline

    with reading(folder):
        picture = decode_picture(content, name="input")
        for single in (False, True):
            steps = run_pipeline(picture, single=single)
            _check_steps(steps, picture)
    gray_HW = picture.gray_HW
    assert gray_HW.dtype == np.float32
    assert gray_HW.ndim == 2
    assert min(gray_HW.shape) >= 1
    assert max(gray_HW.shape) <= WORKING_SIDE_PX
    assert np.isfinite(gray_HW).all()
    assert -1e-5 <= gray_HW.min() <= gray_HW.max() <= 1 + 1e-5
    assert picture.width_px * picture.height_px <= MAX_PIXELS
    assert picture.num_frames >= 1


def _check_steps(steps: Any, picture: Any) -> None:
    for step in (steps.gray_HW, steps.background_HW, steps.contrast_HW, steps.ink_HW):
        assert np.isfinite(step).all()
        assert step.dtype == np.float32
    for digit in {id(d): d for ways in steps.digits for way in ways for d in way}.values():
        assert digit.pixels_HW.shape == (28, 28)
        assert digit.pixels_HW.dtype == np.uint8
        assert digit.pixels_HW.any()
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= picture.width_px
        assert 0 <= top < bottom <= picture.height_px
        assert digit.line >= 0


def _giant(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A small file that unpacks to as many pixels as are allowed, or more."""
    side = rng.choice((7990, 8000, 8001, 20_000))
    mode = rng.choice(("1", "L", "LA", "RGB", "RGBA", "P", "I;16", "I", "F", "CMYK"))
    # Pillow itself refuses to save more in some formats.
    side = min(side, 8001) if mode not in ("1", "L", "P") else side
    target = io.BytesIO()
    page = Image.fromarray(np.zeros((side, side), np.uint16)) if mode == "I;16" else None
    page = page or Image.new(mode, (side, side))
    if mode in ("I", "F", "CMYK") or rng.random() < 0.3:
        page.save(target, "TIFF", compression="tiff_adobe_deflate")
    else:
        page.save(target, "PNG", compress_level=1)
    return target.getvalue()


def _texture(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A page full of dots, bars or noise: as many parts as there can be."""
    side, step = rng.choice((60, 200, 400, 800)), rng.choice((2, 3, 4, 5, 7, 11, 20, 40))
    page = np.full((side, rng.choice((side, 2 * side, 30))), 255, np.uint8)
    kind = rng.randrange(5)
    if kind == 0:
        for dy, dx in itertools.product(range(rng.randrange(1, step + 1)), repeat=2):
            page[dy::step, dx::step] = 0
    elif kind == 1:
        page[:, ::step] = rng.randrange(256)
    elif kind == 2:
        page[::step] = rng.randrange(256)
    elif kind == 3:
        noise = np.frombuffer(rng.randbytes(page.size), np.uint8).reshape(page.shape)
        page = np.where(noise < rng.randrange(256), noise, page).astype(np.uint8)
    else:
        page[np.add.outer(np.arange(page.shape[0]), np.arange(page.shape[1])) % step == 0] = 0
    target = io.BytesIO()
    Image.fromarray(page).save(target, "PNG")
    return target.getvalue()


@cache
def _label_seeds() -> dict[str, list[bytes]]:
    rows = [f"digit{n}.png,{n}" for n in range(10)]
    return {
        "csv": [
            "\n".join(("file,label", *rows)).encode(),
            b'label,note,file\n7,"a, b",seven.png\n12 34,,lines.png\n',
            "\ufefffile,label\nsieben \u00fc.png,7\n".encode(),
            b"file,label\nup/../digit.png,1\nloop.png,2\n/dev/zero,3\n../../../etc/passwd,4\n",
        ]
    }


def _check_labels(how: str, content: bytes, folder: Path) -> None:
    from mnistcli.reading.scoring import LabeledPicture, read_labels

    path = folder / "labels.csv"
    path.write_bytes(content)
    if not (folder / "loop.png").is_symlink():
        (folder / "loop.png").symlink_to("loop.png")
    with reading(path):
        known = read_labels(path)
    for file, label in known.items():
        assert file.is_absolute()
        assert label
        hash(file)
        _ = LabeledPicture(str(file), label, None, 0, 0).kind


READERS: dict[str, Reader] = {
    "idx": Reader(_idx_seeds, {"idx": (damaged, mutations.forged_idx)}, _check_idx),
    "gz": Reader(_gz_seeds, {"images": (damaged,), "labels": (damaged,)}, _check_gz),
    "settings": Reader(
        _settings_seeds,
        {
            "json": (damaged, mutations.forged_json, mutations.forged_json),
            "toml": (damaged, mutations.forged_toml, mutations.forged_toml),
        },
        _check_settings,
    ),
    "run-settings": Reader(
        _run_settings_seeds,
        {"json": (damaged, mutations.forged_json, mutations.forged_json)},
        _check_run_settings,
    ),
    "metrics": Reader(
        _metrics_seeds,
        {"csv": (damaged, mutations.forged_csv, mutations.forged_csv)},
        _check_metrics,
    ),
    "record": Reader(
        _record_seeds,
        {
            "score": (damaged, *[mutations.forged_json] * 3),
            "environment": (damaged, mutations.forged_json),
        },
        _check_record,
    ),
    "picture": Reader(
        _picture_seeds,
        {
            "png": (*[damaged] * 20, *[mutations.forged_png] * 40, *[_texture] * 9, _giant),
            "jpeg": (damaged,),
            "gif": (damaged,),
            "bmp": (damaged,),
            "tiff": (damaged, mutations.forged_tiff, mutations.forged_tiff),
            "webp": (damaged,),
        },
        _check_picture,
    ),
    "labels": Reader(_label_seeds, {"csv": (damaged, mutations.forged_csv)}, _check_labels),
}


def _forged_checkpoint(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    from tests.fuzz import forged_checkpoints

    with warnings.catch_warnings(action="ignore"):
        return forged_checkpoints.forged(rng, content, others)


def _forged_state(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    from tests.fuzz import forged_checkpoints

    with warnings.catch_warnings(action="ignore"):
        return forged_checkpoints.forged_state(rng, content, others)


READERS["state"] = Reader(
    _state_seeds,
    dict.fromkeys(STATE_RECIPES, (damaged, _forged_state, _forged_state)),
    _check_state,
)
READERS["checkpoint"] = Reader(
    _checkpoint_seeds,
    {"pth": (damaged, _forged_checkpoint, _forged_checkpoint, _forged_checkpoint)},
    _check_checkpoint,
)
