"""Saved figures: formats, repeatable bytes, failed writes."""

import io
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from mnistcli.errors import RunError, SettingsError
from mnistcli.plots.figures import curves
from mnistcli.plots.save import save
from tests.helpers.figures import saturating_history


def make_figure() -> Figure:
    return curves({"a": saturating_history(5), "b": saturating_history(7)})


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89")],
)
def test_the_suffix_picks_the_format_and_the_bytes_repeat(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    contents = []
    # A user's matplotlib style has no effect, and is left alone.
    for color in ("white", "black"):
        with mpl.rc_context({"figure.facecolor": color, "axes.labelcolor": color}):
            save(make_figure(), tmp_path / f"plot.{suffix}")
            assert mpl.rcParams["figure.facecolor"] == color
        contents.append((tmp_path / f"plot.{suffix}").read_bytes())
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]
    assert not re.search(rb"CreationDate|<dc:date>", contents[0])


def test_a_stream_gets_a_png_with_200_dots_per_inch() -> None:
    figure, stream = make_figure(), io.BytesIO()
    save(figure, stream)
    assert int.from_bytes(stream.getvalue()[16:20], "big") == round(200 * figure.get_figwidth())


def test_a_given_format_overrides_the_suffix(tmp_path: Path) -> None:
    save(make_figure(), tmp_path / "plot.tmp", format="svg")
    assert (tmp_path / "plot.tmp").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", ["plot.gif", "plot"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        save(make_figure(), tmp_path / name)
    assert all(suffix in refused.value.fix for suffix in (".png", ".svg", ".pdf"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "plot.png"
    target.write_bytes(b"old")

    def refuse(self: Path, other: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunError, match=r"plot\.png") as failed:
        save(make_figure(), target)
    assert failed.value.why == "No space left on device."
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_directory_is_named_in_the_fix(tmp_path: Path) -> None:
    with pytest.raises(RunError) as failed:
        save(make_figure(), tmp_path / "no where" / "plot.png")
    assert failed.value.fix.endswith(f"mkdir -p '{tmp_path}/no where'")


def test_a_closed_pipe_is_a_run_error() -> None:
    class Closed(io.BytesIO):
        def write(self, *_: object) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(RunError, match="stdout"):
        save(make_figure(), Closed(), format="pdf")
