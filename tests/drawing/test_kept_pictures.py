"""Directories that drawings are kept in."""

from pathlib import Path

import pytest
from PIL import Image

from mnistcli.drawing.kept_pictures import open_kept
from mnistcli.errors import DataError, RunError
from tests.drawing.conftest import png

PICTURE = png(Image.new("L", (50, 50), 255))


def test_numbers_go_on_where_they_ended() -> None:
    for labels in (["1", "2"], ["3"]):
        with open_kept(Path("deep/kept")) as kept:
            for label in labels:
                kept.add(PICTURE, label)
    assert kept.labels.read_text() == "file,label\n00001.png,1\n00002.png,2\n00003.png,3\n"


def test_a_name_is_never_used_again() -> None:
    with open_kept(Path("kept")) as kept:
        assert kept.add(PICTURE, "1") == "00001.png"
        Path("kept/00007.gif").touch()
        assert kept.add(PICTURE, "2") == "00008.png"


def test_spaces_are_made_single() -> None:
    with open_kept(Path("kept")) as kept:
        kept.add(PICTURE, " 20\t 26 ")
    assert kept.labels.read_text() == "file,label\n00001.png,20 26\n"


def test_a_label_file_of_another_form_is_left_alone() -> None:
    Path("labels.csv").write_text("name;digit\na.png;1\n")
    with pytest.raises(DataError, match=r"labels\.csv"), open_kept(Path()):
        pass
    assert Path("labels.csv").read_text() == "name;digit\na.png;1\n"


def test_only_one_process_keeps_pictures_in_a_directory() -> None:
    with open_kept(Path("kept")), pytest.raises(RunError, match="kept"), open_kept(Path("kept")):
        pass
