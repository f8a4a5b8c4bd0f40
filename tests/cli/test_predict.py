"""`mnist predict`: pictures in, digits out."""

import csv
import io
import itertools
import json
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnistcli.reading.decode import decode_picture
from mnistcli.reading.pipeline import run_pipeline
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint, save_checkpoint
from tests.helpers.cli import Mnist, Result
from tests.helpers.paths import PICTURES
from tests.reading.test_predict import written


def save(name: str, *lines: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    written(*lines).save(name)
    return name


@pytest.fixture
def scans() -> str:
    """A directory with a 1, a 2, a text file, and a 3 one directory down."""
    for name, text in (("2.png", "2"), ("1.JPG", "1"), ("deep/3.bmp", "3")):
        save(f"scans/{name}", text)
    Path("scans/notes.txt").write_text("no picture")
    return "scans"


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result: Result, *words: str, exit_code: int = 3) -> None:
    assert result.exit_code == exit_code
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("label", "0123456789")
def test_a_digit_is_read(mnist: Mnist, label: str) -> None:
    result = mnist("predict", save("digit.png", label), "-q")
    assert result == Result(0, f"{label}\n", "")


def test_a_person_sees_the_digit_and_the_likeliest_classes(mnist: Mnist) -> None:
    lines = mnist("predict", save("digit.png", "7"), "--top", "4").stdout.splitlines()
    assert lines[0] == "digit.png: 7"
    assert lines[1].startswith("7 ")
    shares = [float(line.split()[-2]) for line in lines[1:]]
    assert len(shares) == 4
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("text", ["2026", "31415", "007"])
def test_several_digits_are_one_number(mnist: Mnist, text: str) -> None:
    assert mnist("predict", save("number.png", text), "-q").stdout == f"{text}\n"


def test_a_person_sees_a_row_a_digit(mnist: Mnist) -> None:
    result = mnist("predict", save("year.png", "2026"))
    assert result.exit_code == 0
    first, *table = result.stdout.splitlines()
    assert first == "year.png: 2026"
    assert [row.split()[0] for row in table[-4:]] == list("2026")
    lefts = [int(row.split()[-2]) for row in table[-4:]]
    assert lefts == sorted(lefts)


def test_two_lines_are_read_from_the_top(mnist: Mnist) -> None:
    save("page.png", "203", "58")
    assert mnist("predict", "page.png", "-q").stdout == "203 58\n"
    (record,) = records(mnist("predict", "page.png", "--json"))
    assert record["read"] == "203 58"
    assert [digit["line"] for digit in record["digits"]] == [0, 0, 0, 1, 1]


def test_single_takes_all_ink_for_one_digit(mnist: Mnist) -> None:
    (record,) = records(mnist("predict", save("year.png", "26"), "--single", "--json"))
    (digit,) = record["digits"]
    assert record["read"] == digit["digit"]
    left, _, right, _ = digit["box"]
    assert right - left > 100


def test_json_is_one_object_a_line(mnist: Mnist) -> None:
    result = mnist("predict", save("1.png", "1"), save("year.png", "2026"), "--json")
    one, year = records(result)
    assert (one["file"], one["read"]) == ("1.png", "1")
    assert (year["file"], year["read"]) == ("year.png", "2026")
    assert (year["width_px"], year["height_px"]) == written("2026").size
    assert "".join(digit["digit"] for digit in year["digits"]) == "2026"
    assert year["probability"] == min(digit["probability"] for digit in year["digits"])
    for record in (one, year):
        assert record["schema_version"] == 1
        assert "error" not in record
        for digit in record["digits"]:
            shares = digit["probabilities"]
            assert list(shares) == list("0123456789")
            assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
            assert shares[digit["digit"]] == digit["probability"] == max(shares.values())
            assert digit["line"] == 0
            left, top, right, bottom = digit["box"]
            assert 0 <= left < right <= record["width_px"]
            assert 0 <= top < bottom <= record["height_px"]
            assert digit["doubt"] is None or isinstance(digit["doubt"], str)
    assert not result.stderr


def test_csv_has_a_row_a_picture(mnist: Mnist) -> None:
    names = [save("a, b.png", "20"), "missing.png", save("c.png", "3")]
    result = mnist("predict", *names, "--csv")
    assert result.exit_code == 3
    columns, *rows = csv.reader(io.StringIO(result.stdout))
    assert columns == ["file", "read", "probability", "doubt", "label", "right", "error"]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["20", "", "3"]
    assert 0.5 < float(rows[0][2]) <= 1
    assert rows[1][2] == ""
    assert [bool(row[6]) for row in rows] == [False, True, False]
    assert "missing.png" in rows[1][6]


def test_csv_tells_labels_and_what_was_right(mnist: Mnist) -> None:
    Path("labels.csv").write_text("file,label\n1.png,1\n2.png,7\n")
    names = [save("1.png", "1"), save("2.png", "2"), save("3.png", "3")]
    result = mnist("predict", *names, "--csv", "--labels", "labels.csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    judged = [(row["label"], row["right"]) for row in rows]
    assert judged == [("1", "True"), ("7", "False"), ("", "")]


def test_a_directory_stands_for_its_pictures(mnist: Mnist, scans: str) -> None:
    assert mnist("predict", scans, "-q") == Result(0, "1\n2\n", "")
    read = records(mnist("predict", scans, "--json"))
    assert [each["file"] for each in read] == ["scans/1.JPG", "scans/2.png"]


def test_recursive_goes_to_the_bottom(mnist: Mnist, scans: str) -> None:
    for option in ("--recursive", "-r"):
        assert mnist("predict", scans, option, "-q").stdout == "1\n2\n3\n"


def test_a_directory_without_pictures_says_what_to_do(mnist: Mnist) -> None:
    save("folder/deep/1.png", "1")
    refused(mnist("predict", "folder"), "'folder'", "--recursive")
    assert mnist("predict", "folder", "-r", "-q").stdout == "1\n"


def test_a_quoted_pattern_stands_for_what_is_called_like_it(mnist: Mnist, scans: str) -> None:
    assert mnist("predict", "scans/*.png", "-q").stdout == "2\n"
    assert mnist("predict", "scans/**/[1-9].*", "-q").stdout == "1\n2\n3\n"
    result = mnist("predict", "scans/*.gif", "-q")
    refused(result, "scans/*.gif")
    assert not result.stdout


@pytest.mark.parametrize("name", ["a[1]/7.png", "[7].png", "my digit.png", "sieben·七.png"])
def test_any_name_will_do(mnist: Mnist, name: str) -> None:
    save(name, "7")
    assert mnist("predict", name).stdout.startswith(f"{name}: 7\n")
    assert records(mnist("predict", name, "--json"))[0]["file"] == name


def test_a_directory_named_like_a_pattern(mnist: Mnist) -> None:
    save("scans [1]/7.png", "7")
    save("scans 1/8.png", "8")
    assert mnist("predict", "scans [1]", "-q").stdout == "7\n"


def test_a_name_may_begin_with_a_dash(mnist: Mnist) -> None:
    save("-7.png", "7")
    assert mnist("predict", "-q", "--", "-7.png").stdout == "7\n"
    refused(mnist("predict", "-7.png"), "-7", exit_code=2)


def test_a_picture_comes_from_standard_input(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(save("year.png", "2026")).read_bytes()
    for arguments, read in (
        (["-", "-q"], "2026\n"),
        ([save("1.png", "1"), "-", "-q"], "1\n2026\n"),
        (["-"], "-: 2026\n"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert mnist("predict", *arguments).stdout.startswith(read)


def test_what_fails_does_not_stop_the_others(mnist: Mnist) -> None:
    Path("bad.png").write_bytes(b"not a picture")
    names = [save("1.png", "1"), "bad.png", "missing.png", save("2.png", "2")]
    result = mnist("predict", *names, "-q")
    refused(result, "bad.png", "missing.png")
    assert result.stdout == "1\n?\n?\n2\n"
    result = mnist("predict", *names)
    refused(result, "bad.png", "missing.png")
    assert "1.png: 1\n" in result.stdout
    assert "2.png: 2\n" in result.stdout
    assert "bad" not in result.stdout


def test_json_tells_what_failed(mnist: Mnist) -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    result = mnist("predict", "missing.png", save("1.png", "1"), "blank.png", "--json")
    refused(result, "missing.png", "blank.png")
    missing, one, blank = records(result)
    assert [each["read"] for each in (missing, one, blank)] == [None, "1", None]
    for each, name in ((missing, "missing.png"), (blank, "blank.png")):
        assert each["file"] == name
        assert name in each["error"]["what"]
        assert each["error"]["why"]
        assert "digits" not in each


def bomb(side_px: int) -> bytes:
    """A PNG file whose header promises a square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"hello", "is no picture"),
        (b"%PDF-1.7\n", "PDF"),
        (encoded(written("7"))[:300], "is damaged"),
        (encoded(written("7"))[:20], "is no picture"),
        (encoded(Image.new("L", (50, 50), 255)), "no digit"),
        (bomb(20_000), "is too large"),
        (bomb(8_500), "is too large"),
    ],
    ids=["missing", "empty", "text", "PDF", "cut", "headless", "blank", "bomb", "large"],
)
def test_what_cannot_be_read_ends_in_a_message(
    mnist: Mnist, content: bytes | None, words: str
) -> None:
    if content is not None:
        Path("it.png").write_bytes(content)
    result = mnist("predict", "it.png")
    refused(result, "it.png", words)
    assert not result.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read_ends_in_a_message(mnist: Mnist) -> None:
    Path(save("secret.png", "7")).chmod(0)
    refused(mnist("predict", "secret.png"), "secret.png", "Permission denied")


@pytest.mark.parametrize("name", ["moving.gif", "pages.tiff"])
def test_the_first_of_several_frames_is_read_and_the_others_told(mnist: Mnist, name: str) -> None:
    further = [written("1"), written("2")]
    written("7").save(name, save_all=True, append_images=further)
    result = mnist("predict", name)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: 7\n")
    assert name in result.stderr
    assert "3 frames or pages" in result.stderr


def test_more_than_four_pictures_get_a_line_each(mnist: Mnist) -> None:
    names = [save(f"{label}.png", label) for label in "12345"]
    assert len(mnist("predict", *names[:4]).stdout.splitlines()) > 4
    result = mnist("predict", *names, save("year.png", "2026"))
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        *([f"{label}.png:", label] for label in "12345"),
        ["year.png:", "2026"],
    ]
    assert all(line.endswith(" %") or "unsure" in line or "unlike" in line for line in lines)


def test_many_pictures_come_back_in_order(mnist: Mnist) -> None:
    numbers = [str(number % 60) for number in range(210)]
    for number in set(numbers):
        save(f"{number}.png", number)
    alone = {number: mnist("predict", f"{number}.png", "-q").stdout for number in ("0", "47", "59")}
    names = [f"{number}.png" for number in numbers]
    Path("gone.png").write_bytes(b"")
    result = mnist("predict", *names[:100], "gone.png", *names[100:], "--json")
    refused(result, "gone.png")
    read = records(result)
    assert [each["file"] for each in read] == [*names[:100], "gone.png", *names[100:]]
    assert read.pop(100)["read"] is None
    for each, number in zip(read, numbers, strict=True):
        if number in alone:
            assert f"{each['read']}\n" == alone[number]
        assert each["probability"] == pytest.approx(
            read[numbers.index(number)]["probability"], abs=1e-5
        )
    assert sum(each["read"] == number for each, number in zip(read, numbers, strict=True)) > 190


@pytest.fixture
def labelled() -> str:
    """Six pictures, of which a label file beside them knows four, one of them blank."""
    for label in "1234":
        save(f"scans/{label}.png", label)
    save("scans/year.png", "2026")
    Image.new("L", (50, 50), 255).save("scans/blank.png")
    rows = ["file,label", "1.png,1", "2.png,2", "year.png,2026", "blank.png,8", "gone.png,5"]
    Path("scans/labels.csv").write_text("\n".join(rows))
    return "scans/labels.csv"


def test_labels_score_the_readings(mnist: Mnist, labelled: str) -> None:
    result = mnist("predict", "scans", "--labels", labelled)
    refused(result, "blank.png", "not counted: 2 of the pictures")
    lines = [line.split() for line in result.stdout.splitlines()]
    (row,) = [line for line in lines if line[:1] == ["all"]]
    assert row[1:4] == ["3", "4", "75.00"]
    assert row[5:8] == ["30.06", "to", "95.44"]
    misread = result.stdout.partition("Misread:")[2].split("\n")
    assert [line.strip() for line in misread if line] == ["scans/blank.png: 8 read as nothing"]


@pytest.mark.parametrize("options", [[], ["-q"], ["--json"]])
def test_labels_of_other_pictures_are_no_score(mnist: Mnist, options: list[str]) -> None:
    Path("labels.csv").write_text("file,label\nother.png,1\n")
    result = mnist("predict", save("1.png", "1"), "--labels", "labels.csv", *options)
    refused(result, "None of the pictures has a label")


def test_what_was_misread_is_listed(mnist: Mnist) -> None:
    names = [save("1.png", "1"), save("2.png", "2"), save("year.png", "2026")]
    Path("labels.csv").write_text("file,label\n1.png,1\n2.png,3\nyear.png,2025\n")
    result = mnist("predict", *names, "--labels", "labels.csv")
    assert result.exit_code == 0
    listed = result.stdout.partition("Misread:")[2]
    assert "2.png: 3 read as 2\n" in listed
    assert "year.png: 2025 read as 2026\n" in listed
    assert "1.png: " not in listed
    assert not result.stderr


def test_nothing_is_listed_where_all_is_right(mnist: Mnist) -> None:
    Path("labels.csv").write_text("file,label\npage.png,20358\n")
    result = mnist("predict", save("page.png", "203", "58"), "--labels", "labels.csv")
    assert "100.00 %" in result.stdout
    assert "Misread" not in result.stdout


def test_with_labels_quiet_prints_the_accuracy_only(mnist: Mnist, labelled: str) -> None:
    assert mnist("predict", "scans", "--labels", labelled, "-q").stdout == "75.00\n"


def test_the_last_object_of_json_is_the_score(mnist: Mnist, labelled: str) -> None:
    *read, last = records(mnist("predict", "scans", "--labels", labelled, "--json"))
    by_name = {Path(each["file"]).stem: each for each in read}
    assert {name: each.get("right") for name, each in by_name.items()} == {
        "1": True,
        "2": True,
        "3": None,
        "4": None,
        "blank": False,
        "year": True,
    }
    assert by_name["year"]["label"] == "2026"
    assert "label" not in by_name["3"]
    assert last["schema_version"] == 1
    assert last["num_unlabelled"] == 2
    score = last["score"]
    assert (score["all"]["num"], score["all"]["num_right"]) == (4, 3)
    # By hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z 1.95996, n 4, p 3/4.
    assert score["all"]["interval"] == pytest.approx([0.3006, 0.9544], abs=5e-5)
    kinds = [tally for kind, tally in score.items() if kind != "all"]
    assert sum(tally["num"] for tally in kinds) == 4
    assert score["several digits"]["num_right"] == score["several digits"]["num"] == 1


def test_labels_are_found_from_anywhere(
    mnist: Mnist, labelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    monkeypatch.chdir("scans")
    assert mnist("predict", "1.png", "--labels", "labels.csv", "-q").stdout == "100.00\n"
    Path("deep").mkdir()
    monkeypatch.chdir("deep")
    result = mnist("predict", "../2.png", here / "scans/1.png", "--labels", here / labelled, "-q")
    assert result == Result(0, "100.00\n", "")


def test_labels_may_begin_with_a_byte_order_mark(mnist: Mnist) -> None:
    Path("labels.csv").write_text("file,label\n7.png,7\n", encoding="utf-8-sig")
    result = mnist("predict", save("7.png", "7"), "--labels", "labels.csv", "-q")
    assert result.stdout == "100.00\n"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "No such file"),
        (b"", "no rows"),
        (b"file,label\n", "no rows"),
        (b"file;label\n7.png;7\n", "file;label"),
        ("file,label\nfünf.png,5\n".encode("latin-1"), "utf-8"),
    ],
    ids=["missing", "empty", "no rows", "no columns", "not UTF-8"],
)
def test_a_bad_label_file_ends_in_a_message(mnist: Mnist, content: bytes | None, word: str) -> None:
    if content is not None:
        Path("labels.csv").write_bytes(content)
    result = mnist("predict", save("7.png", "7"), "--labels", "labels.csv")
    refused(result, "labels.csv", word, "first line is file,label")
    assert not result.stdout


@pytest.mark.parametrize("text", ["7", "2026"])
def test_what_the_network_saw_is_saved(mnist: Mnist, text: str) -> None:
    name = save("number.png", text)
    result = mnist("predict", name, "--save-input", "seen.png", "-q")
    assert result == Result(0, f"{text}\n", "")
    steps = run_pipeline(decode_picture(Path(name).read_bytes(), name=name))
    expected_HW = np.hstack([ways[0][0].pixels_HW for ways in steps.digits])
    with Image.open("seen.png") as seen:
        assert (seen.format, seen.mode, seen.size) == ("PNG", "L", (28 * len(text), 28))
        assert np.array_equal(np.asarray(seen), expected_HW)


def test_what_was_saved_is_read_alike(mnist: Mnist) -> None:
    mnist("predict", save("7.png", "7"), "--save-input", "seen.png")
    assert mnist("predict", "seen.png", "-q").stdout == "7\n"


def test_save_input_takes_one_picture(mnist: Mnist, scans: str) -> None:
    for names in ((save("1.png", "1"), save("2.png", "2")), (scans,), ("scans/*.*",)):
        result = mnist("predict", *names, "--save-input", "seen.png")
        refused(result, "--save-input", exit_code=2)
        assert not result.stdout
    assert not Path("seen.png").exists()
    assert mnist("predict", "scans/*.png", "--save-input", "seen.png").exit_code == 0
    assert Path("seen.png").exists()


def test_nothing_is_saved_where_nothing_is_read(mnist: Mnist) -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    refused(mnist("predict", "blank.png", "--save-input", "seen.png"), "blank.png")
    assert not Path("seen.png").exists()


def test_a_directory_that_is_missing_ends_in_a_message(mnist: Mnist) -> None:
    result = mnist("predict", save("7.png", "7"), "--save-input", "missing/seen.png")
    refused(result, "missing/seen.png", "a directory that is there", exit_code=2)


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(("--json", "--csv", "-q", "--show"), 2))
)
def test_two_ways_to_print_are_refused(mnist: Mnist, pair: tuple[str, str]) -> None:
    result = mnist("predict", save("7.png", "7"), *pair)
    refused(result, *(option.replace("-q", "--quiet") for option in pair), exit_code=2)
    assert not result.stdout


def probabilities(result: Result) -> list[dict[str, float]]:
    return [digit["probabilities"] for each in records(result) for digit in each["digits"]]


def test_several_checkpoints_are_averaged(mnist: Mnist, trained: Path) -> None:
    name = save("year.png", "2026")
    bundled = probabilities(mnist("predict", name, "--json"))
    other = probabilities(mnist("predict", name, "-c", trained, "--json"))
    both = probabilities(mnist("predict", name, "-c", trained, "-c", BUNDLED_CHECKPOINT, "--json"))
    assert len(bundled) == len(other) == len(both) == 4
    assert bundled != other
    for ours, theirs, mean in zip(bundled, other, both, strict=True):
        expected = {label: (ours[label] + theirs[label]) / 2 for label in ours}
        assert mean == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_checkpoint_is_found_by_name(mnist: Mnist, trained: Path) -> None:
    name = save("7.png", "7")
    by_path = mnist("predict", name, "-c", trained / "best.pth", "--json")
    by_name = mnist("predict", name, "-c", "small", "--out", trained.parent, "--json")
    assert by_path.exit_code == 0
    assert by_path == by_name
    refused(mnist("predict", name, "-c", "nowhere"), "nowhere")


def test_checkpoints_of_other_classes_are_not_averaged(mnist: Mnist, trained: Path) -> None:
    loaded = load_checkpoint(trained / "best.pth")
    card = loaded.card.model_copy(update={"classes": tuple("abcdefghij")})
    save_checkpoint(Path("letters.pth"), loaded.network, card)
    name = save("7.png", "7")
    assert mnist("predict", name, "-c", "letters.pth", "-q").exit_code == 0
    result = mnist("predict", name, "-c", trained, "-c", "letters.pth")
    refused(result, "letters.pth", "classes", exit_code=2)
    assert not result.stdout


@pytest.mark.parametrize("top", ["0", "11", "x"])
def test_top_has_bounds(mnist: Mnist, top: str) -> None:
    refused(mnist("predict", save("7.png", "7"), "--top", top), "--top", exit_code=2)


@pytest.mark.parametrize("top", [1, 10])
def test_top_may_lie_at_its_bounds(mnist: Mnist, top: int) -> None:
    lines = mnist("predict", save("7.png", "7"), "--top", str(top)).stdout.splitlines()
    assert len(lines) == 1 + top


@pytest.mark.pictures
def test_the_pictures_of_many_people_are_read(mnist: Mnist) -> None:
    """As the README says: 171 of 173 handwritten digits, and 10 of 10 pictures of several."""
    result = mnist("predict", PICTURES, "--labels", PICTURES / "labels.csv", "--json")
    *read, last = records(result)
    with (PICTURES / "labels.csv").open(newline="", encoding="utf-8") as lines:
        kinds = {row["file"]: row["kind"] for row in csv.DictReader(lines)}
    right: dict[str, list[bool]] = {}
    for each in read:
        right.setdefault(kinds[Path(each["file"]).name], []).append(each["right"])
    singles = right["handwritten"] + right["photo"]
    assert (len(singles), len(right["multi"])) == (173, 10)
    assert sum(singles) >= 171
    assert sum(right["multi"]) == 10
    assert last["score"]["all"]["num"] == 186
