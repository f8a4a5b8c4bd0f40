"""Every reader of files from outside gets damaged and forged files.

It must return a correct result or raise an `MnistError` that says what to do. It must touch nothing
but its file, and run no code in it. Files with checksums must be refused or read as undamaged.
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
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mnistcli.config.recipes import RECIPES, get_recipe
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.checksums import DataFile
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.idx import read_idx
from mnistcli.data.normalization import Normalization
from mnistcli.errors import MnistError
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.metrics import ClassScore, class_scores
from mnistcli.evaluation.scores import Mistake, Score, read_score
from mnistcli.models.registry import build_network, build_on_meta, get_architecture
from mnistcli.reading.decode import MAX_PIXELS, WORKING_SIDE_PX, decode_picture
from mnistcli.reading.pipeline import segment_ink, segment_thumbnail
from mnistcli.reading.scoring import read_labels
from mnistcli.reading.thumbnail import MAX_SIDE_PX
from mnistcli.runs.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.history import EpochResult, read_metrics, write_metrics
from mnistcli.runs.saved_state import SavedState, read_state, save_state
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from tests.fuzz.changes import (
    damaged,
    forged_archive,
    forged_csv,
    forged_json,
    forged_png,
    forged_toml,
)
from tests.helpers.audit import touches_only
from tests.helpers.forged_archives import BAIT

pytestmark = pytest.mark.slow

Forge = Callable[[Sequence[bytes]], st.SearchStrategy[bytes]]


@dataclass(frozen=True)
class Reader:
    """How a kind of file is read.

    `read` gets the path of a file called `name`, checks the result, and returns it in a form that
    can be compared. `valid` gives correct files; `other_files` are files beside it.
    """

    name: str
    valid: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    forge: Forge | None = None
    has_checksums: bool = False
    other_files: Callable[[], dict[str, bytes]] = dict

    def inputs(self) -> st.SearchStrategy[tuple[bytes, bool]]:
        """Contents of files, and whether they are forged rather than damaged."""
        inputs = st.tuples(damaged(self.valid()), st.just(False))
        return inputs | st.tuples(self.forge(self.valid()), st.just(True)) if self.forge else inputs


def train_settings(recipe: str, **flags: Any) -> TrainSettings:
    return resolve_settings({"recipe": recipe, **flags}, environ={}).settings


# IDX files and data sets


def idx(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def valid_idx() -> list[bytes]:
    shapes = [(5, 28, 28), (5,), (0, 28, 28), (2, 3, 4, 5)]
    return [idx(np.ones(shape, np.uint8)) for shape in shapes]


def read_idx_file(path: Path) -> None:
    content = path.read_bytes()
    array = read_idx(content, name=path.name)
    num_axes = content[3]
    assert array.dtype == np.uint8
    assert array.shape == struct.unpack(f">{num_axes}I", content[4 : 4 + 4 * num_axes])
    assert array.tobytes() == content[4 + 4 * num_axes :]


def dataset_files() -> dict[str, bytes]:
    files = {"images": np.full((5, 28, 28), 7, np.uint8), "labels": np.arange(5, dtype=np.uint8)}
    return {f"Tiny/raw/{name}.gz": gzip.compress(idx(a), mtime=0) for name, a in files.items()}


def dataset_file(name: str) -> list[bytes]:
    return [dataset_files()[name]]


def read_dataset(path: Path) -> bytes:
    files = tuple(
        DataFile(Path(name).stem, hashlib.md5(content, usedforsecurity=False).hexdigest())
        for name, content in dataset_files().items()
    )
    dataset = replace(get_dataset("mnist"), folder="Tiny", files=files * 2)
    examples = load_dataset(dataset, "train", path.parents[2])
    return examples.images_NHW.numpy().tobytes() + examples.labels_N.numpy().tobytes()


# Settings and records


@cache
def settings_records() -> list[dict[str, Any]]:
    records = [train_settings(name).model_dump(mode="json") for name in RECIPES]
    flags = {"augment": True, "label_smoothing": 0.1, "val_size": 0}
    return [*records, train_settings("cnn-10-20", **flags).model_dump(mode="json")]


def valid_settings_json() -> list[bytes]:
    return [json.dumps(record).encode() for record in settings_records()]


def valid_settings_toml() -> list[bytes]:
    return [to_toml(record).encode() for record in settings_records()]


def to_toml(record: dict[str, Any]) -> str:
    tables = {name: value for name, value in record.items() if isinstance(value, dict)}
    plain = {name: value for name, value in record.items() if name not in tables}
    sections = [plain, *tables.values()]
    titles = ["", *(f"[{name}]\n" for name in tables)]
    lines = (
        title + "\n".join(f"{k} = {json.dumps(v)}" for k, v in section.items() if v is not None)
        for title, section in zip(titles, sections, strict=True)
    )
    return "\n".join(lines)


def read_settings_file(path: Path) -> None:
    resolved = resolve_settings({}, config=path, environ={}).settings
    check_settings(resolved)
    assert get_recipe(resolved.recipe).arch == resolved.arch
    fitted = fit_budget(resolved)
    build_on_meta(fitted.arch, fitted.network)


def check_settings(resolved: TrainSettings) -> None:
    assert TrainSettings.model_validate_json(resolved.model_dump_json()) == resolved
    numbers = [value for value in resolved.model_dump().values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))


def valid_metrics() -> list[bytes]:
    epochs = [EpochResult(n, 0.1 / n, 1 / n, 0.9, 1.1 / n, 0.8, 2.5, 1e4) for n in range(1, 6)]
    without_val = [replace(epoch, val_loss=None, val_accuracy=None) for epoch in epochs]
    contents = []
    for history in (epochs, without_val, epochs[:1]):
        write_metrics(Run(Path()), history)
        contents.append(Path("metrics.csv").read_bytes())
    return contents


def read_metrics_file(path: Path) -> None:
    epochs = read_metrics(Run(path.parent))
    numbers = [epoch.epoch for epoch in epochs]
    assert numbers == sorted({*numbers})
    assert 1 <= numbers[0] <= numbers[-1] <= 10_000
    for epoch in epochs:
        values = [value for value in asdict(epoch).values() if value is not None]
        assert all(math.isfinite(value) and value >= 0 for value in values)
        assert max(epoch.train_accuracy, epoch.val_accuracy or 0) <= 1
        assert (epoch.val_loss is None) == (epoch.val_accuracy is None)


def valid_score() -> list[bytes]:
    confusion = [[int(i == k) for k in range(10)] for i in range(10)]
    confusion[1][1:3] = [2, 1]
    score = Score(
        *("runs/x/best.pth", "digits", "test", 12, 1, 0.25, 11 / 12, (0.6, 0.99)),
        classes=[ClassScore(name, 1, 0.5, 1.0, 0.75) for name in "0123456789"],
        confusion=confusion,
        mistakes=[Mistake(3, 1, 2, 0.9, 0.05)],
        bins=[ConfidenceBin(12, 11 / 12, 0.9)],
    )
    return [json.dumps({"schema_version": 1, **asdict(score)}).encode()]


def read_score_file(path: Path) -> None:
    score = read_score(Run(path.parent), "digits", "test")
    assert score
    counts_KK = np.array(score.confusion)
    assert counts_KK.shape == (10, 10) == (len(score.classes),) * 2
    assert (counts_KK >= 0).all()
    assert counts_KK.sum() == score.num_images >= 1
    assert counts_KK.trace() == score.num_images - score.num_errors
    assert 0 <= score.interval[0] <= score.interval[1] <= 1
    assert 0 <= score.accuracy <= 1
    assert math.isfinite(score.loss)
    for mistake in score.mistakes:
        assert 0 <= mistake.index < score.num_images
        assert 0 <= mistake.label < 10 > mistake.predicted >= 0
        assert 0 <= mistake.probability <= 1 >= mistake.label_probability >= 0
    names = tuple(score.name for score in score.classes)
    class_scores(counts_KK, names)
    for text in (score.checkpoint, score.dataset, *names):
        text.encode()


def valid_environment() -> list[bytes]:
    record = {"started": "2026-01-01", "versions": {"torch": "2"}, "device": {"value": "cpu"}}
    return [json.dumps(record).encode()]


# Checkpoints and states


@cache
def valid_checkpoints() -> list[bytes]:
    """A small network of every architecture."""
    torch.manual_seed(0)
    small: dict[str, dict[str, Any]] = {
        "mlp-50-50": {"hidden": [3]},
        "cnn-26k": {"channels": [2, 2], "hidden": [4]},
        "cnn-small": {"width": 1},
        "cnn-deep": {"channels": [1, 1]},
        "ann": {"hidden": [1]},
    }
    contents = []
    for recipe, flags in small.items():
        resolved = train_settings(recipe, **flags)
        card = CheckpointCard(
            settings=resolved,
            classes=tuple("0123456789"),
            mean=0.13,
            std=0.3,
            input_px=get_architecture(resolved.arch).input_px,
            epoch=3,
            val_accuracy=0.5,
            versions={"torch": "2"},
        )
        path = Path("valid.pth")
        save_checkpoint(path, build_network(resolved.arch, resolved.network), card)
        contents.append(path.read_bytes())
    return contents


def read_checkpoint_file(path: Path) -> object:
    loaded = load_checkpoint(path)
    card, weights = loaded.card, loaded.network.state_dict()
    assert CheckpointCard.model_validate(card.model_dump()) == card
    expected = build_on_meta(card.settings.arch, card.settings.network).state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape)
        assert tensor.is_contiguous()
        assert tensor.isfinite().all()
    return card.model_dump_json(), comparable(dict(weights))


STATE_SETTINGS = {
    "adam": train_settings("mlp-50-50", hidden=[3], epochs=2, ema=0.9),
    "sgd": train_settings("cnn-26k", channels=[2], hidden=[], optimizer="sgd", schedule="plateau"),
    "adamw": train_settings("cnn-small", width=1, optimizer="adamw", schedule="onecycle"),
}


def new_state(kind: str) -> TrainState:
    return TrainState(STATE_SETTINGS[kind], num_examples=32, device="cpu", precision="float32")


@cache
def valid_state(kind: str) -> list[bytes]:
    """Two epochs of a small network."""
    generator = torch.Generator().manual_seed(0)
    images_NHW = torch.randint(0, 256, (32, 28, 28), dtype=torch.uint8, generator=generator)
    examples = Examples(images_NHW, torch.arange(32) % 10)
    state = new_state(kind)
    epochs = fit(state, examples, examples, Normalization(0.13, 0.3, 28))
    history = list(itertools.islice(epochs, 2))
    saved = SavedState(settings=STATE_SETTINGS[kind], history=history, state=state.state_dict())
    save_state(Run(Path()), saved)
    return [Path("state.pth").read_bytes()]


def read_state_file(kind: str, path: Path) -> object:
    saved = read_state(Run(path.parent), STATE_SETTINGS[kind])
    assert saved
    state = new_state(kind)
    state.load_state_dict(saved.state)
    assert state.num_epochs_done == len(saved.history)
    assert all(tensor.isfinite().all() for tensor in state.eval_model.state_dict().values())
    # Another step must work, whatever the numbers are.
    logits_NK = state.model(torch.zeros(2, 1, 28, 28))
    torch.nn.functional.cross_entropy(logits_NK, torch.tensor([1, 2])).backward()
    state.optimizer.step()
    return comparable(saved.state), saved.history


def comparable(value: Any) -> Any:
    """Nested values with tensors as their bytes."""
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(inner) for inner in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


# Pictures and their labels


def encode(mode: str, format_: str, **options: Any) -> bytes:
    """A seven, dark on light."""
    page = Image.new("L", (48, 54), 235)
    page.paste(20, (12, 12, 36, 17))
    page.paste(20, (26, 12, 31, 42))
    if mode == "I;16":
        page = Image.fromarray(np.asarray(page).astype(np.uint16) * 257)
    target = io.BytesIO()
    page.convert("RGB" if mode == "CMYK" else page.mode).convert(mode).save(
        target, format_, **options
    )
    return target.getvalue()


@cache
def valid_pictures(format_: str) -> list[bytes]:
    modes = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "JPEG": ("L", "RGB", "CMYK"),
        "GIF": ("L", "P"),
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "TIFF": ("L", "I", "F", "I;16", "CMYK", "RGBA", "P", "LA"),
        "WEBP": ("RGB", "RGBA"),
    }
    options: list[tuple[str, dict[str, Any]]] = [(mode, {}) for mode in modes[format_]]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    if format_ in ("PNG", "JPEG", "WEBP"):
        options.append(("RGB", {"exif": exif}))
    if format_ in ("PNG", "GIF", "TIFF", "WEBP"):
        options.append(("L", {"save_all": True, "append_images": [Image.new("L", (48, 54))]}))
    if format_ == "TIFF":
        options += [("L", {"compression": name}) for name in ("tiff_lzw", "packbits")]
        options += [("1", {"compression": "group4"}), ("RGB", {"compression": "jpeg"})]
    return [encode(mode, format_, **more) for mode, more in options]


def read_picture_file(path: Path) -> None:
    picture = decode_picture(path.read_bytes(), name="input")
    gray_HW = picture.gray_HW
    assert gray_HW.dtype == np.float32
    assert gray_HW.ndim == 2
    assert 1 <= min(gray_HW.shape) <= max(gray_HW.shape) <= WORKING_SIDE_PX
    assert np.isfinite(gray_HW).all()
    assert -1e-5 <= gray_HW.min() <= gray_HW.max() <= 1 + 1e-5
    assert picture.width_px * picture.height_px <= MAX_PIXELS
    size = (picture.width_px, picture.height_px)
    for single in (False, True):
        found = [segment_ink(1 - gray_HW.clip(0, 1), size, single=single)]
        if max(gray_HW.shape) <= MAX_SIDE_PX:
            found.append(segment_thumbnail(gray_HW, size, single=single))
        lines = [line for segmentation in found for line in segmentation.lines]
        for digit in itertools.chain(*(line.candidates.values() for line in lines)):
            assert digit.pixels_HW.shape == (28, 28)
            assert digit.pixels_HW.any()
            left, top, right, bottom = digit.box
            assert 0 <= left < right <= picture.width_px
            assert 0 <= top < bottom <= picture.height_px


def valid_labels() -> list[bytes]:
    rows = [f"digit{n}.png,{n}" for n in range(10)]
    return [
        "\n".join(("file,label", *rows)).encode(),
        b'label,note,file\n7,"a, b",seven.png\n12 34,,lines.png\n',
        "\ufefffile,label\nsieben \u00fc.png,7\n".encode(),
        b"file,label\nup/../digit.png,1\n/dev/zero,3\n../../../etc/passwd,4\n",
    ]


def read_labels_file(path: Path) -> None:
    for file, label in read_labels(path).items():
        assert file.is_absolute()
        assert label.text


def read_environment_file(path: Path) -> None:
    assert type(read_record(Run(path.parent), "environment.json")) is dict


READERS = {
    "idx": Reader("images-idx3-ubyte", valid_idx, read_idx_file),
    **{
        name: Reader(
            path,
            partial(dataset_file, path),
            read_dataset,
            has_checksums=True,
            other_files=dataset_files,
        )
        for name, path in (("images", "Tiny/raw/images.gz"), ("labels", "Tiny/raw/labels.gz"))
    },
    "config-json": Reader("config.json", valid_settings_json, read_settings_file, forged_json),
    "config-toml": Reader("config.toml", valid_settings_toml, read_settings_file, forged_toml),
    "run-settings": Reader(
        "settings.json",
        valid_settings_json,
        lambda path: check_settings(read_settings(Run(path.parent))),
        forged_json,
    ),
    "metrics": Reader("metrics.csv", valid_metrics, read_metrics_file, forged_csv),
    "score": Reader("eval-digits-test.json", valid_score, read_score_file, forged_json),
    "environment": Reader(
        "environment.json", valid_environment, read_environment_file, forged_json
    ),
    "checkpoint": Reader(
        "best.pth", valid_checkpoints, read_checkpoint_file, forged_archive, has_checksums=True
    ),
    **{
        f"state-{kind}": Reader(
            "state.pth",
            partial(valid_state, kind),
            partial(read_state_file, kind),
            forged_archive,
            has_checksums=True,
        )
        for kind in STATE_SETTINGS
    },
    "png": Reader("x.png", partial(valid_pictures, "PNG"), read_picture_file, forged_png),
    **{
        name: Reader(f"x.{name}", partial(valid_pictures, name.upper()), read_picture_file)
        for name in ("jpeg", "gif", "bmp", "tiff", "webp")
    },
    "labels-csv": Reader("labels.csv", valid_labels, read_labels_file, forged_csv),
}


def assert_helpful(error: MnistError) -> None:
    assert error.what
    assert error.fix
    assert len(error.what + error.why + error.fix) < 2000


@pytest.mark.parametrize("kind", READERS)
def test_changed_files_are_refused_or_read_correctly(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    path = tmp_path / "read" / reader.name
    path.parent.mkdir(parents=True)
    for name, content in reader.other_files().items():
        (tmp_path / "read" / name).write_bytes(content)

    def read(content: bytes) -> object:
        path.write_bytes(content)
        with touches_only(tmp_path / "read"):
            return reader.read(path)

    # Also loads what libraries load lazily, before their imports would be mistaken for accesses.
    results = [read(content) for content in reader.valid()]

    @settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=300,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.inputs())
    def check(given_input: tuple[bytes, bool]) -> None:
        content, is_forged = given_input
        try:
            with warnings.catch_warnings(action="error"):
                result = read(content)
        except MnistError as error:
            assert_helpful(error)
        else:
            if reader.has_checksums and not is_forged:
                assert result in results
        finally:
            assert not BAIT.exists()

    check()
