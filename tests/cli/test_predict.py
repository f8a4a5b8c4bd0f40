"""`mnist predict`: pictures in, digits out."""

import csv
import io
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnistcli.reading.annotate import DOUBTED, LEFT_OUT, READ
from mnistcli.runs.checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from tests.helpers.cli import Mnist, Result
from tests.helpers.paths import PICTURES
from tests.helpers.pictures import encoded, reading_of, with_marks, written
from tests.helpers.strokes import drawn


def save(name: str, *lines: str) -> str:
    """Write a picture of these digits; they are the file's name if there are none."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    written(*lines or [path.stem]).save(path)
    return name


@pytest.fixture
def scans() -> str:
    """A directory with a 1, a 2, a text file, and a 3 in a subdirectory."""
    for name in ("2.png", "1.JPG", "deep/3.bmp"):
        save(f"scans/{name}")
    Path("scans/notes.txt").write_text("not a picture")
    return "scans"


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_refused(result: Result, *words: str, exit_code: int = 3) -> None:
    assert result.exit_code == exit_code
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("digits", [*"0123456789", "2026", "007"])
def test_digits_are_read(mnist: Mnist, digits: str) -> None:
    assert mnist("predict", save(f"{digits}.png"), "-q") == Result(0, f"{digits}\n", "")


@pytest.mark.parametrize(("options", "num"), [([], 3), (["--top", "1"], 1), (["-t", "10"], 10)])
def test_one_digit_is_printed_with_the_most_probable_classes(
    mnist: Mnist, options: list[str], num: int
) -> None:
    first, *rows = mnist("predict", save("7.png"), *options).stdout.splitlines()
    assert first == "7.png: 7"
    assert rows[0].startswith("7 ")
    shares = [float(row.split()[-2]) for row in rows]
    assert len(shares) == num
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("top", ["0", "63", "x"])
def test_top_has_bounds(mnist: Mnist, top: str) -> None:
    assert_refused(mnist("predict", save("7.png"), "--top", top), "--top", exit_code=2)


def test_several_digits_are_printed_one_per_row(mnist: Mnist) -> None:
    first, *rows = mnist("predict", save("2026.png")).stdout.splitlines()
    assert first == "2026.png: 2026"
    assert [row.split()[0] for row in rows[-4:]] == list("2026")
    lefts = [int(row.split()[-2]) for row in rows[-4:]]
    assert lefts == sorted(lefts)


def test_json_is_one_object_per_line(mnist: Mnist) -> None:
    result = mnist("predict", save("1.png"), save("page.png", "203", "58"), "--json")
    one, page = records(result)
    assert (one["file"], one["read"]) == ("1.png", "1")
    assert (page["file"], page["read"], page["num_frames"]) == ("page.png", "203 58", 1)
    assert (page["width_px"], page["height_px"]) == written("203", "58").size
    assert [digit["digit"] for digit in page["digits"]] == list("20358")
    assert [digit["line"] for digit in page["digits"]] == [0, 0, 0, 1, 1]
    assert page["probability"] == min(digit["probability"] for digit in page["digits"])
    for record in (one, page):
        assert record["schema_version"] == 1
        assert record["error"] is None
        for digit in record["digits"]:
            probabilities = digit["probabilities"]
            assert list(probabilities) == list("0123456789")
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
            assert probabilities[digit["digit"]] == digit["probability"]
            left, top, right, bottom = digit["box"]
            assert 0 <= left < right <= record["width_px"]
            assert 0 <= top < bottom <= record["height_px"]
            assert digit["doubt"] is None
            assert 0.5 < digit["digit_probability"] <= 1
        assert (record["doubts"], record["left_out"]) == ([], [])
    assert result.stderr == ""


def test_json_says_what_is_left_out(mnist: Mnist) -> None:
    with_marks("7").save("7.png")
    Image.new("L", (50, 50), 255).save("blank.png")
    read, blank, missing = records(mnist("predict", "7.png", "blank.png", "gone.png", "--json"))
    assert read["read"] == "7"
    [mark] = read["left_out"]
    assert np.abs(np.subtract(mark["box"], [35, 15, 39, 19])).max() <= 1
    assert "apart" in mark["reason"]
    assert "left out: 1 part" in read["doubts"][-1]
    assert blank["left_out"] == []
    assert missing["left_out"] is None
    assert missing["doubts"] is None


def test_csv_has_a_row_per_picture(mnist: Mnist) -> None:
    Path("labels.csv").write_text("file,label\n1.png,1\n2.png,7\n")
    names = [save("a, b.png", "20"), "missing.png", save("1.png"), save("2.png")]
    result = mnist("predict", *names, "--csv", "--labels", "labels.csv")
    assert result.exit_code == 3
    columns, *rows = csv.reader(io.StringIO(result.stdout))
    assert columns == ["file", "read", "probability", "doubt", "label", "correct", "error"]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["20", "", "1", "2"]
    assert 0.5 < float(rows[0][2]) <= 1
    assert rows[1][2] == ""
    assert [row[4:6] for row in rows] == [["", ""], ["", ""], ["1", "True"], ["7", "False"]]
    assert [bool(row[6]) for row in rows] == [False, True, False, False]


def test_single_reads_all_ink_as_one_digit(mnist: Mnist) -> None:
    [record] = records(mnist("predict", save("26.png"), "--single", "--json"))
    [digit] = record["digits"]
    assert record["read"] == digit["digit"]
    left, _, right, _ = digit["box"]
    assert right - left > 100


def test_directories_and_patterns(mnist: Mnist, scans: str) -> None:
    assert mnist("predict", scans, "-q") == Result(0, "1\n2\n", "")
    for option in ("--recursive", "-r"):
        assert mnist("predict", scans, option, "-q").stdout == "1\n2\n3\n"
    assert mnist("predict", "scans/*.png", "-q").stdout == "2\n"
    assert mnist("predict", "scans/**/[1-9].*", "-q").stdout == "1\n2\n3\n"
    assert_refused(mnist("predict", "scans/*.gif"), "scans/*.gif")
    save("folder/deep/1.png")
    assert_refused(mnist("predict", "folder"), "'folder'", "--recursive")


@pytest.mark.parametrize(
    "name", ["a[1]/7.png", "[7].png", "my digit.png", "sieben·七.png", "[red]7.png"]
)
def test_names_with_special_characters(mnist: Mnist, name: str) -> None:
    save(name, "7")
    assert mnist("predict", name).stdout.startswith(f"{name}: 7\n")
    assert records(mnist("predict", name, "--json"))[0]["file"] == name


def test_a_name_may_begin_with_a_dash(mnist: Mnist) -> None:
    save("-7.png", "7")
    assert mnist("predict", "-q", "--", "-7.png").stdout == "7\n"
    assert_refused(mnist("predict", "-7.png"), "-7", exit_code=2)


@pytest.mark.parametrize(
    ("arguments", "stdout"),
    [(["-", "-q"], "2026\n"), (["1.png", "-", "-q"], "1\n2026\n"), (["-"], "-: 2026\n")],
)
def test_standard_input(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stdout: str
) -> None:
    save("1.png")
    stdin = io.TextIOWrapper(io.BytesIO(encoded(written("2026"))))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert mnist("predict", *arguments).stdout.startswith(stdout)


def test_files_that_fail_do_not_stop_the_others(mnist: Mnist) -> None:
    Path("bad.png").write_bytes(b"not a picture")
    Image.new("L", (50, 50), 255).save("blank.png")
    names = [save("1.png"), "bad.png", "missing.png", "blank.png", save("2.png")]
    result = mnist("predict", *names, "-q")
    assert_refused(result, "bad.png", "missing.png", "blank.png")
    assert result.stdout == "1\n?\n?\n?\n2\n"
    result = mnist("predict", *names[:4])
    assert "1.png: 1\n" in result.stdout
    assert "bad" not in result.stdout
    read = records(mnist("predict", *names, "--json"))
    assert [record["file"] for record in read] == names
    assert [record["read"] for record in read] == ["1", None, None, None, "2"]
    for record in read[1:4]:
        assert record["file"] in record["error"]["what"]
        assert record["error"]["why"]
        assert record["digits"] is None


@pytest.mark.parametrize("name", ["moving.gif", "pages.tiff"])
def test_of_several_frames_only_the_first_is_read(mnist: Mnist, name: str) -> None:
    written("7").save(name, save_all=True, append_images=[written("1"), written("2")])
    result = mnist("predict", name)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: 7\n")
    assert name in result.stderr
    assert "3 frames or pages" in result.stderr


def test_files_left_out_of_a_directory_are_counted_in_a_note(mnist: Mnist, scans: str) -> None:
    for name in ("a.pdf", "b.PDF", "c.avif"):
        Path(scans, name).touch()
    result = mnist("predict", scans, "-q")
    assert (result.exit_code, result.stdout) == (0, "1\n2\n")
    [note] = result.stderr.splitlines()
    assert "3 (1 .avif, 2 .pdf)" in note
    Path("papers").mkdir()
    Path("papers/d.svg").touch()
    assert_refused(mnist("predict", "papers"), "'papers'", "1 .svg")


def test_a_doubt_names_its_digit_and_its_file(mnist: Mnist) -> None:
    page = Image.new("L", (300, 160), 255)
    page.paste(drawn("7", height_px=100), (20, 20))
    page.paste(0, (220, 30, 226, 130))  # a 1 as by a ruler
    page.save("71.png")
    doubt = "digit 2 (1) unsure:"
    shown = mnist("predict", "71.png")
    assert f"\n  {doubt}" in shown.stdout
    assert "digit 1" not in shown.stdout
    names = ["71.png", *(save(f"{label}.png") for label in "1234")]
    line, *others = mnist("predict", *names).stdout.splitlines()
    assert line.startswith("71.png: 71 ")
    assert doubt in line
    assert not any("digit" in other for other in others)
    quiet = mnist("predict", *names, "-q")
    assert (quiet.exit_code, quiet.stdout) == (0, "71\n1\n2\n3\n4\n")
    assert quiet.stderr.startswith(f"71.png: {doubt}")


def test_more_than_four_pictures_get_a_line_each(mnist: Mnist) -> None:
    names = [save(f"{label}.png") for label in "1234"]
    assert len(mnist("predict", *names).stdout.splitlines()) > 4
    lines = mnist("predict", *names, save("2026.png")).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        *([f"{label}.png:", label] for label in "1234"),
        ["2026.png:", "2026"],
    ]


@pytest.mark.slow
def test_many_pictures_come_back_in_order(mnist: Mnist) -> None:
    numbers = [str(number % 60) for number in range(210)]
    names = [save(f"{number}.png") for number in numbers]
    names.insert(100, "missing.png")
    result = mnist("predict", *names, "--json")
    assert_refused(result, "missing.png")
    read = records(result)
    assert [record["file"] for record in read] == names
    assert read.pop(100)["read"] is None
    assert [record["read"] for record in read] == numbers


@pytest.fixture
def labels() -> str:
    """A label file for four of six pictures; one of the four is blank."""
    for name in ("1", "2", "3", "4", "2026"):
        save(f"scans/{name}.png")
    Image.new("L", (50, 50), 255).save("scans/blank.png")
    rows = ["file,label", "1.png,1", "2.png,2", "2026.png,2026", "blank.png,8", "gone.png,5"]
    Path("scans/labels.csv").write_text("\n".join(rows))
    return "scans/labels.csv"


def test_labels_give_a_score_and_a_list_of_misread_pictures(mnist: Mnist, labels: str) -> None:
    result = mnist("predict", "scans", "--labels", labels)
    assert_refused(result, "blank.png", "without a label, not counted: 2")
    table, _, misread = result.stdout.partition("Misread:")
    [row] = [line.split() for line in table.splitlines() if line.split()[:1] == ["all"]]
    assert row[1:4] == ["3", "4", "75.00"]
    # By hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z 1.95996, n 4, p 3/4.
    assert row[5:8] == ["30.06", "to", "95.44"]
    assert misread.split() == ["scans/blank.png:", "8", "read", "as", "nothing"]
    assert mnist("predict", "scans", "--labels", labels, "-q").stdout == "75.00\n"


def test_the_last_object_of_json_is_the_score(mnist: Mnist, labels: str) -> None:
    *read, last = records(mnist("predict", "scans", "--labels", labels, "--json"))
    by_name = {Path(record["file"]).stem: record for record in read}
    assert {name: record["correct"] for name, record in by_name.items()} == {
        "1": True,
        "2": True,
        "3": None,
        "4": None,
        "2026": True,
        "blank": False,
    }
    assert by_name["2026"]["label"] == "2026"
    assert by_name["3"]["label"] is None
    assert (last["schema_version"], last["num_unlabeled"]) == (1, 2)
    score = last["score"]
    assert (score["all"]["num_pictures"], score["all"]["num_correct"]) == (4, 3)
    assert score["all"]["interval"] == pytest.approx([0.3006, 0.9544], abs=5e-5)
    assert sum(tally["num_pictures"] for tally in score.values()) == 2 * 4
    assert score["several digits"]["num_correct"] == score["several digits"]["num_pictures"] == 1


def test_misread_digits_are_listed(mnist: Mnist) -> None:
    names = [save("1.png"), save("2.png"), save("page.png", "203", "58")]
    Path("labels.csv").write_text("file,label\n1.png,1\n2.png,3\npage.png,20358\n")
    result = mnist("predict", *names, "--labels", "labels.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.partition("Misread:")[2].split() == ["2.png:", "3", "read", "as", "2"]
    assert "Misread" not in mnist("predict", "1.png", "--labels", "labels.csv").stdout


@pytest.mark.parametrize("options", [[], ["-q"], ["--json"]])
def test_labels_of_other_pictures_are_refused(mnist: Mnist, options: list[str]) -> None:
    Path("labels.csv").write_text("file,label\nother.png,1\n")
    result = mnist("predict", save("1.png"), "--labels", "labels.csv", *options)
    assert_refused(result, "None of the pictures has a label")
    assert not result.stdout, "nothing is read before"


def test_labels_are_found_from_any_directory(
    mnist: Mnist, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    Path("scans/deep").mkdir()
    monkeypatch.chdir("scans/deep")
    result = mnist("predict", "../2.png", here / "scans/1.png", "--labels", here / labels, "-q")
    assert result == Result(0, "100.00\n", "")


def test_a_bad_label_file_stops_before_any_picture_is_read(mnist: Mnist) -> None:
    Path("labels.csv").write_text("file|label\n7.png|7\n")
    for name in ("labels.csv", "missing.csv"):
        result = mnist("predict", save("7.png"), "--labels", name)
        assert_refused(result, name, "file,label")
        assert not result.stdout


@pytest.mark.parametrize("digits", ["7", "2026"])
def test_the_networks_input_is_saved(mnist: Mnist, digits: str) -> None:
    name = save(f"{digits}.png")
    result = mnist("predict", name, "--save-input", "input.png", "--csv")
    assert (result.exit_code, result.stderr) == (0, "Wrote input.png\n")
    assert mnist("predict", name, "--save-input", "input.png", "-q").stdout == f"{digits}\n"
    predictions = reading_of(Path(name).read_bytes()).predictions
    with Image.open("input.png") as saved:
        expected = np.hstack([prediction.digit.pixels_HW for prediction in predictions])
        assert np.array_equal(np.asarray(saved), expected)


@pytest.mark.parametrize(
    ("pictures", "target", "fix"),
    [
        (["1.png", "2.png"], "input.png", "Name one picture"),
        (["scans"], "input.png", "Name one picture"),
        (["1.png"], "1.png", "another name"),
        (["1.png"], "input.jpg", "{option} input.png"),
        (["1.png"], "missing/input.png", "mkdir -p missing"),
        (["1.png"], "missing/input.jpg", "{option} missing/input.png"),
        (["1.png"], "directory.png", "another name"),
    ],
)
@pytest.mark.parametrize("option", ["--save-input", "--annotate"])
def test_pictures_are_not_written_elsewhere(
    mnist: Mnist, scans: str, pictures: list[str], target: str, fix: str, option: str
) -> None:
    Path("directory.png").mkdir()
    before = Path(save("1.png")).read_bytes()
    result = mnist("predict", *pictures, option, target)
    assert_refused(result, option, fix.format(option=option), exit_code=2)
    assert not result.stdout
    assert Path("1.png").read_bytes() == before
    assert not Path("input.png").exists()


def test_nothing_is_saved_if_there_is_no_digit(mnist: Mnist) -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    assert_refused(mnist("predict", "blank.png", "--save-input", "input.png"), "blank.png")
    assert not Path("input.png").exists()


def colors_at(name: str, box: Sequence[int]) -> set[object]:
    """The colors of the corners of the box around ink."""
    with Image.open(name) as picture:
        left, top = (max(0, side - 3) for side in box[:2])
        right, bottom = (
            min(end, side + 3) for side, end in zip(box[2:], picture.size, strict=True)
        )
        assert (picture.mode, picture.format) == ("RGB", "PNG")
        return {picture.getpixel((x, y)) for x in (left, right - 1) for y in (top, bottom - 1)}


def test_a_picture_is_annotated_with_boxes(mnist: Mnist) -> None:
    with_marks("7").save("7.png")
    result = mnist("predict", "7.png", "--annotate", "boxes.png", "--json")
    [record] = records(result)
    [digit] = record["digits"]
    assert result.stderr.splitlines()[-1] == "Wrote boxes.png"
    assert colors_at("boxes.png", digit["box"]) == {DOUBTED if digit["doubt"] else READ}
    assert colors_at("boxes.png", record["left_out"][0]["box"]) == {LEFT_OUT}
    with Image.open("boxes.png") as picture:
        assert picture.size == (40, 40)


def test_a_picture_in_which_nothing_is_read_is_annotated_too(mnist: Mnist) -> None:
    page = Image.new("L", (50, 50), 255)
    page.save("blank.png")
    assert_refused(mnist("predict", "blank.png", "--annotate", "boxes.png"), "blank.png")
    with Image.open("boxes.png") as picture:
        assert picture.tobytes() == page.convert("RGB").tobytes()
    result = mnist("predict", "missing.png", "--annotate", "missing-boxes.png")
    assert_refused(result, "missing.png")
    assert not Path("missing-boxes.png").exists()


def test_standard_input_is_not_annotated(mnist: Mnist) -> None:
    result = mnist("predict", "-", "--annotate", "boxes.png")
    assert_refused(result, "--annotate", exit_code=2)
    assert not Path("boxes.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        *itertools.combinations(("--json", "--csv", "--quiet", "--show"), 2),
        ("--show", "--labels=labels.csv"),
    ],
)
def test_options_that_cannot_be_combined(mnist: Mnist, options: tuple[str, str]) -> None:
    result = mnist("predict", save("7.png"), *options)
    assert_refused(result, *(option.partition("=")[0] for option in options), exit_code=2)
    assert not result.stdout


def test_several_checkpoints_are_averaged(mnist: Mnist, trained: Path) -> None:
    name = save("7.png")

    def probabilities(*options: str | Path) -> dict[str, float]:
        [record] = records(mnist("predict", name, "--json", *options))
        [digit] = record["digits"]
        return dict(digit["probabilities"])

    bundled, other = probabilities("-c", "reader"), probabilities("-c", trained)
    assert bundled != other
    expected = {label: (bundled[label] + other[label]) / 2 for label in bundled}
    both = probabilities("-c", trained, "--checkpoint", BUNDLED["reader"])
    assert both == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_the_sample_is_read(mnist: Mnist) -> None:
    assert mnist("predict", "--demo", "-q").stdout == "4207\n"
    assert mnist("predict", save("7.png"), "--demo", "-q").stdout == "7\n4207\n"


def test_without_a_picture_the_sample_is_named(mnist: Mnist) -> None:
    result = mnist("predict")
    assert result.exit_code == 2
    assert "mnist predict --demo" in result.stderr


def test_a_network_among_the_pictures_is_answered_with_the_option(
    mnist: Mnist, trained: Path
) -> None:
    name = save("7.png")
    for network in ("small", trained, trained / "best.pth", "reader"):
        result = mnist("predict", name, network, "--out", trained.parent)
        assert_refused(result, f"mnist predict {name} -c {network}", exit_code=2)


def test_a_table_among_the_pictures_is_answered_with_the_option(mnist: Mnist) -> None:
    name = save("7.png")
    Path("test.CSV").write_text("pixel0,pixel1\n0,0\n")
    result = mnist("predict", name, "test.CSV")
    assert_refused(result, "mnist predict test.CSV --submission submission.csv", exit_code=2)


def test_a_directory_of_pictures_may_have_the_name_of_a_run(mnist: Mnist, trained: Path) -> None:
    Path("small").mkdir()
    save("small/7.png")
    assert mnist("predict", "small", "--out", trained.parent, "-q").stdout == "7\n"


def test_a_checkpoint_is_found_by_name(mnist: Mnist, trained: Path) -> None:
    name = save("7.png")
    by_path = mnist("predict", name, "-c", trained / "best.pth", "--json")
    by_name = mnist("predict", name, "-c", "small", "--out", trained.parent, "--json")
    assert by_path.exit_code == 0
    assert by_path == by_name
    assert_refused(mnist("predict", name, "-c", "nowhere"), "nowhere")


def test_the_bundled_networks_have_names(mnist: Mnist) -> None:
    name = save("7.png")
    both = ["-c", "reader", "-c", "cnn-small"]
    unset, bundled, reader, small, path = (
        records(mnist("predict", name, "--json", *options))
        for options in ([], both, both[:2], both[2:], ["-c", BUNDLED["cnn-small"]])
    )
    assert unset == bundled
    assert reader != bundled != small
    assert small == path
    assert [record["read"] for [record] in (unset, small)] == ["7", "7"]


def test_checkpoints_of_other_classes_are_not_averaged(mnist: Mnist, trained: Path) -> None:
    loaded = load_checkpoint(trained / "best.pth")
    card = loaded.card.model_copy(update={"classes": tuple("abcdefghij")})
    save_checkpoint(Path("letters.pth"), loaded.network, card)
    name = save("7.png")
    assert mnist("predict", name, "-c", "letters.pth", "-q").exit_code == 0
    result = mnist("predict", name, "-c", trained, "-c", "letters.pth")
    assert_refused(result, "letters.pth", "classes", exit_code=2)
    assert not result.stdout


@pytest.mark.slow
@pytest.mark.pictures
def test_pictures_by_many_people(mnist: Mnist) -> None:
    """At least 171 of 173 handwritten digits, and 10 of 10 pictures of several."""
    result = mnist("predict", PICTURES, "--labels", PICTURES / "labels.csv", "--json")
    *read, last = records(result)
    with (PICTURES / "labels.csv").open(newline="", encoding="utf-8") as lines:
        kinds = {row["file"]: row["kind"] for row in csv.DictReader(lines)}
    correct: dict[str, list[bool]] = {}
    for record in read:
        correct.setdefault(kinds[Path(record["file"]).name], []).append(record["correct"])
    singles = correct["handwritten"] + correct["photo"]
    assert (len(singles), len(correct["multi"])) == (173, 10)
    assert sum(singles) >= 171
    assert sum(correct["multi"]) == 10
    assert last["score"]["all"]["num_pictures"] == 186


def test_each_pattern_without_a_match_is_named(mnist: Mnist) -> None:
    result = mnist("predict", "nope*.png", "nada*.png")
    assert result.exit_code == 3
    assert "nope" in result.stderr
    assert "nada" in result.stderr
