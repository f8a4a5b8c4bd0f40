"""Label files as people write them; scores computed by hand."""

import re
import unicodedata
from pathlib import Path

import pytest

from mnistcli.data import csv_table
from mnistcli.errors import DataError
from mnistcli.reading.scoring import (
    LabeledPicture,
    PictureScores,
    Tally,
    labels_as_classes,
    read_labels,
    require_labeled,
    resolve_path,
)


def picture(label: str, read: str | None, *, side_px: int = 100) -> LabeledPicture:
    return LabeledPicture("digit.png", label, read, side_px, side_px)


def label_file(text: str, *, encoding: str = "utf-8") -> Path:
    path = Path("labels.csv")
    path.write_text(text, encoding=encoding, newline="")
    return path


DIGITS = tuple("0123456789")


def read_digits(path: Path) -> dict[Path, str]:
    return labels_as_classes(read_labels(path), DIGITS, path)


def by_name(path: Path) -> dict[str, str]:
    return {file.name: label for file, label in read_digits(path).items()}


@pytest.mark.parametrize(
    ("read", "label", "is_correct"),
    [
        ("2026", "2026", True),
        ("226", "2026", False),
        ("12 45", "1245", True),
        ("1245", " 12 45\n", True),
        ("7", "07", False),
        ("", "7", False),
        (None, "7", False),
    ],
)
def test_every_digit_counts_and_no_space(read: str | None, label: str, is_correct: bool) -> None:
    assert picture(label, read).is_correct is is_correct


def test_kinds_are_distinguished_by_digits_and_size() -> None:
    several = picture("12", "12").kind
    small, large = picture("7", "7", side_px=28).kind, picture("7", "7", side_px=29).kind
    assert len({several, small, large, picture("7", None, side_px=0).kind}) == 4
    assert picture("12", None, side_px=20).kind == several
    assert LabeledPicture("wide.png", "7", "7", 40, 28).kind == large
    assert picture(" 7 ", "71").kind == large


def test_the_interval_is_the_published_one() -> None:
    # Newcombe 1998, table I.
    assert Tally(num=263, num_correct=81).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_all_pictures_and_each_kind_are_counted() -> None:
    pictures = [
        picture("7", "7"),
        picture("7", "1"),
        picture("3", None),
        picture("12", "12"),
        picture("5", "5", side_px=28),
    ]
    scores = PictureScores({}, pictures)
    assert scores.tallies() == {
        "all": Tally(num=5, num_correct=3),
        pictures[0].kind: Tally(num=3, num_correct=1),
        pictures[3].kind: Tally(num=1, num_correct=1),
        pictures[4].kind: Tally(num=1, num_correct=1),
    }
    assert next(iter(scores.tallies())) == "all"
    assert scores.misread == pictures[1:3]


def test_pictures_without_a_label_are_counted_apart() -> None:
    scores = PictureScores({Path.cwd().resolve() / "7.png": "7"})
    assert scores.add("8.png", "8", (30, 20)) is None
    require_labeled(scores.labels, ["8.png", "./7.png"])
    with pytest.raises(DataError, match="None of the pictures"):
        require_labeled(scores.labels, ["8.png"])
    assert scores.add("./7.png", "1", (30, 20)) == LabeledPicture("./7.png", "7", "1", 30, 20)
    assert scores.num_unlabeled == 1
    assert scores.tallies()["all"] == Tally(num=1, num_correct=0)


def test_files_are_relative_to_the_label_file() -> None:
    here = Path.cwd()
    Path("scans").mkdir()
    path = Path("scans/labels.csv")
    path.write_text(f"file,label\n1.png,1\ndeep/2.png,2\n../3.png,3\n{here / '4.png'},4\n")
    assert read_digits(path) == {
        here / "scans" / "1.png": "1",
        here / "scans" / "deep" / "2.png": "2",
        here / "3.png": "3",
        here / "4.png": "4",
    }


def test_links_are_followed() -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    Path("loop.png").symlink_to("loop.png")
    Path("real/labels.csv").write_text("file,label\na.png,7\n../loop.png,8\n")
    here = Path.cwd().resolve()
    assert read_digits(Path("link/labels.csv")) == {
        here / "real" / "a.png": "7",
        here / "loop.png": "8",
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("file,label\na.png,7\n数字.png,08\n", id="plain"),
        pytest.param("file,label\r\na.png,7\r\n数字.png,08\r\n", id="Windows"),
        pytest.param("\ufefffile,label\na.png,7\n数字.png,08\n", id="byte order mark"),
        pytest.param("who,label,file\nann,7,a.png\nbob,08,数字.png\n", id="other columns"),
        pytest.param("File, Label\na.png, 7\n数字.png, 08\n", id="capitals and spaces"),
        pytest.param("file,label\n\na.png,7\nb.png\n,7\nc.png,\n数字.png,08\n", id="gaps"),
    ],
)
def test_label_files_as_people_write_them(text: str) -> None:
    assert by_name(label_file(text)) == {"a.png": "7", "数字.png": "08"}


def test_names_may_contain_commas() -> None:
    assert by_name(label_file('file,label\n"sieben, groß.png",7\n')) == {"sieben, groß.png": "7"}


@pytest.mark.parametrize(
    ("text", "encoding", "why"),
    [
        ("", "utf-8", "no rows"),
        ("file,label\n", "utf-8", "no rows"),
        ("file|label\na.png|7\n", "utf-8", "file|label"),
        ("name,digit\na.png,7\n", "utf-8", "name, digit"),
        ("file,label\n\0.png,7\n", "utf-8", "null"),
        ("file,label\nfünf.png,5\n", "latin-1", "utf-8"),
    ],
)
def test_other_files_are_refused(text: str, encoding: str, why: str) -> None:
    with pytest.raises(DataError) as caught:
        read_labels(label_file(text, encoding=encoding))
    assert "labels.csv" in caught.value.what
    assert why in caught.value.why
    assert "file,label" in caught.value.fix


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_files_that_cannot_be_opened_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"'{name}'")):
        read_labels(Path(name))


def test_endless_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "MAX_CHARACTERS", 1000)
    Path("device.csv").symlink_to("/dev/zero")
    for path in (label_file("file,label\n" + "a.png,1\n" * 200), Path("device.csv")):
        with pytest.raises(DataError) as caught:
            read_labels(path)
        assert "more than 1,000 characters" in caught.value.why


@pytest.mark.parametrize(
    "text",
    [
        '"file", "label"\n"a.png", "7"\n',
        'file label\n"a.png"   7\n',
        "\n \nfile,label\na.png,7\n",
        "file,label\na.png,\uff17\n",
        "file,label\na.png,\u0667\n",
        "file;label\na.png;7\n",
        "file\tlabel\na.png\t7\n",
        " File , Label \n a.png , 7 \n",
        "label,file\n7.0,a.png\n",
        "file,label\n\na.png,7.00\n",
    ],
)
def test_usual_separators_spaces_quotes_and_numbers(text: str) -> None:
    assert by_name(label_file(text)) == {"a.png": "7"}


@pytest.mark.parametrize("first", ["a.png,7", '"a.png"; 7', " a.png\t7.0"])
def test_a_missing_header_is_not_a_missing_label(first: str) -> None:
    Path("a.png").touch()
    assert by_name(label_file(f"{first}\n")) == {"a.png": "7"}
    delimiter = next(each for each in ",;\t" if each in first)
    two = label_file(f"{first}\nb.png{delimiter}8\n")
    assert by_name(two) == {"a.png": "7", "b.png": "8"}


@pytest.mark.parametrize("first", ["b.png,7", "7,a.png", "a.png,7,ann", "a.png"])
def test_a_first_line_that_may_be_a_header_is_not_a_row(first: str) -> None:
    Path("a.png").touch()
    with pytest.raises(DataError, match="not a label file"):
        read_labels(label_file(f"{first}\n{first}\n"))


def test_only_whole_numbers_lose_their_zeros() -> None:
    text = "file,label\na.png,70\nb.png,2026.0\n"
    assert by_name(label_file(text)) == {"a.png": "70", "b.png": "2026"}


@pytest.mark.parametrize("swap", [False, True])
def test_a_name_is_found_in_any_form_of_unicode(swap: bool) -> None:
    on_disk, in_file = (unicodedata.normalize("NFC", "für"), unicodedata.normalize("NFD", "für"))
    if swap:
        on_disk, in_file = in_file, on_disk
    Path(on_disk).touch()
    labels = read_digits(label_file(f"file,label\n{in_file},7\n"))
    assert labels[resolve_path(Path(on_disk))] == "7"


def test_backslashes_are_separators_unless_a_file_is_called_so() -> None:
    Path("scans").mkdir()
    Path("odd\\name.png").touch()
    labels = read_digits(label_file("file,label\nscans\\a.png,7\nodd\\name.png,1\n"))
    assert labels == {
        resolve_path(Path("scans/a.png")): "7",
        resolve_path(Path("odd\\name.png")): "1",
    }


@pytest.mark.parametrize("label", ["seven", "7.5", "7,5", "-7", "?", "nan", "\u00b2", "\u00bd"])
def test_a_label_that_is_not_made_of_classes_is_refused_with_its_line(label: str) -> None:
    path = label_file(f'file,label\na.png,12 3\n\n"b.png","{label}"\nc.png,x\n')
    with pytest.raises(DataError, match="line 4") as caught:
        read_digits(path)
    assert label in caught.value.what


@pytest.mark.parametrize("name", ["Ankle boot", "\uff17", "7.0"])
def test_names_of_classes_are_labels_as_they_are(name: str) -> None:
    path = label_file(f"file,label\na.png,{name}\n")
    classes = ("T-shirt/top", "7", name)
    assert list(labels_as_classes(read_labels(path), classes, path).values()) == [name]
