"""Label files as people write them; scores worked out by hand."""

from pathlib import Path

import pytest

from mnistcli.data import csv_table as tables
from mnistcli.errors import DataError
from mnistcli.reading.scoring import (
    LabeledPicture,
    PictureScores,
    Tally,
    is_same_number,
    read_labels,
    strip_spaces,
)
from tests.helpers.cli import Mnist


def reading(label: str, read: str | None, *, side_px: int = 100) -> LabeledPicture:
    return LabeledPicture("digit.png", label, read, side_px, side_px)


def write(text: str, *, encoding: str = "utf-8") -> Path:
    path = Path("labels.csv")
    path.write_text(text, encoding=encoding, newline="")
    return path


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.what
    assert "file,label" in caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("read", "label", "right"),
    [
        ("7", "7", True),
        ("7", "1", False),
        ("2026", "2026", True),
        ("226", "2026", False),
        ("12 45", "1245", True),
        ("1245", " 12 45\n", True),
        ("12 54", "12 45", False),
        ("7", "07", False),
        ("", "7", False),
        (None, "7", False),
    ],
)
def test_every_digit_counts_and_no_line_end(read: str | None, label: str, right: bool) -> None:
    assert reading(label, read).right is right
    if read is not None:
        assert is_same_number(read, label) is right


def test_white_space_is_no_digit() -> None:
    assert strip_spaces(" 1 2\t3\n") == "123"


def test_kinds_are_told_apart_by_digits_and_size() -> None:
    kinds = [
        reading("12", "12").kind,
        reading("12", None, side_px=20).kind,
        reading("7", "7", side_px=28).kind,
        reading("7", "7", side_px=29).kind,
        LabeledPicture("wide.png", "7", "7", 40, 28).kind,
        reading(" 7 ", "71").kind,
    ]
    several, small, larger = kinds[0], kinds[2], kinds[3]
    assert len({several, small, larger}) == 3
    assert kinds == [several, several, small, larger, larger, larger]


@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (3, 4, 0.3006, 0.9544),
    ],
)
def test_the_interval_is_the_published_one(
    num_correct: int, num: int, low: float, high: float
) -> None:
    assert Tally(num, num_correct).interval == pytest.approx((low, high), abs=5e-5)


def test_all_pictures_and_each_kind_are_counted() -> None:
    readings = [
        reading("7", "7"),
        reading("7", "1"),
        reading("3", None),
        reading("12", "12"),
        reading("5", "5", side_px=28),
    ]
    tallies = PictureScores(readings, num_unlabelled=9).tallies()
    assert next(iter(tallies)) == "all"
    assert tallies["all"] == Tally(num=5, num_correct=3)
    by_kind = {each.kind: tallies[each.kind] for each in readings}
    assert by_kind == {
        readings[0].kind: Tally(num=3, num_correct=1),
        readings[3].kind: Tally(num=1, num_correct=1),
        readings[4].kind: Tally(num=1, num_correct=1),
    }
    assert len(tallies) == 4


def test_what_was_misread_keeps_its_order() -> None:
    readings = [reading("7", "1"), reading("3", "3"), reading("4", None)]
    assert PictureScores(readings).misread == [readings[0], readings[2]]


def test_files_are_relative_to_the_label_file() -> None:
    here = Path.cwd()
    Path("scans").mkdir()
    path = Path("scans/labels.csv")
    path.write_text(f"file,label\n1.png,1\ndeep/2.png,2\n../3.png,3\n{here / '4.png'},4\n")
    assert read_labels(path) == {
        here / "scans" / "1.png": "1",
        here / "scans" / "deep" / "2.png": "2",
        here / "3.png": "3",
        here / "4.png": "4",
    }


def test_columns_may_stand_in_any_order_beside_others() -> None:
    labels = read_labels(write("who,label,file\nann,07,a.png\nbob,12,b.png\n"))
    assert list(labels.values()) == ["07", "12"]
    assert [path.name for path in labels] == ["a.png", "b.png"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_names_may_hold_commas_and_other_alphabets(line_end: str) -> None:
    lines = ["file,label", '"sieben, groß.png",7', "数字.png,8", ""]
    labels = read_labels(write(line_end.join(lines)))
    assert {path.name: label for path, label in labels.items()} == {
        "sieben, groß.png": "7",
        "数字.png": "8",
    }


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    labels = read_labels(write("file,label\na.png,7\n", encoding="utf-8-sig"))
    assert labels == {Path.cwd() / "a.png": "7"}


def test_rows_that_lack_something_are_left_out() -> None:
    labels = read_labels(write("file,label\n\na.png\n,7\nb.png,\nc.png,3\n"))
    assert labels == {Path.cwd() / "c.png": "3"}


def test_the_way_to_a_link_and_to_what_it_points_at_is_the_same() -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    Path("real/labels.csv").write_text("file,label\na.png,7\n")
    assert read_labels(Path("link/labels.csv")) == {Path.cwd().resolve() / "real" / "a.png": "7"}


def test_a_label_file_that_is_missing_is_named() -> None:
    assert "No such file" in refusal(Path("gone.csv")).why


def test_a_directory_is_no_label_file() -> None:
    Path("folder").mkdir()
    assert refusal(Path("folder")).why


@pytest.mark.parametrize("text", ["", "\n", "file,label\n"])
def test_a_label_file_without_rows_is_refused(text: str) -> None:
    assert "no rows" in refusal(write(text)).why


@pytest.mark.parametrize("header", ["file;label", "name,digit", "file,digit"])
def test_other_columns_are_named(header: str) -> None:
    why = refusal(write(f"{header}\na.png,7\n")).why
    assert all(name in why for name in header.split(","))


@pytest.mark.parametrize("header", ["File,Label", "file, label", "label ,kind,FILE"])
def test_a_header_may_be_spaced_and_capital(header: str) -> None:
    names = [name.strip().lower() for name in header.split(",")]
    row = ",".join({"file": "a.png", "label": "7", "kind": "x"}[name] for name in names)
    assert list(read_labels(write(f"{header}\n{row}\n")).values()) == ["7"]


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "null" in refusal(write("file,label\n\0.png,7\n")).why


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(encoding: str) -> None:
    assert "utf-8" in refusal(write("file,label\nfünf.png,5\n", encoding=encoding)).why


def test_a_ring_of_links_is_a_name_like_any_other() -> None:
    Path("ring.png").symlink_to("ring.png")
    assert list(read_labels(write("file,label\nring.png,7\n")).values()) == ["7"]


def test_a_ring_of_links_among_labelled_pictures_is_unreadable(mnist: Mnist) -> None:
    Path("ring.png").symlink_to("ring.png")
    result = mnist("predict", "ring.png", "--labels", write("file,label\nring.png,7\n"))
    assert "cannot be read" in result.stderr


def test_the_columns_of_another_file_are_named_in_short() -> None:
    assert len(refusal(write("x" * 9000 + ",y\n1,2\n")).why) < 300


def test_a_label_file_of_an_absurd_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CHARACTERS", 30)
    why = refusal(write("file,label\n" + "a.png,1\n" * 9)).why
    assert "more than 30 characters" in why
    Path("device.csv").symlink_to("/dev/zero")
    refusal(Path("device.csv"))
