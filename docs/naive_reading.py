"""`mnist predict` compared with naive preprocessing, with the same weights.

$ python docs/naive_reading.py DIRECTORY
$ python docs/naive_reading.py

Naive preprocessing is that of most MNIST scripts: convert to grayscale, resize to 28x28, invert
if the picture is mostly light. DIRECTORY holds pictures and a file labels.csv (columns
file,label); without it, both read scikit-learn's 1,797 handwritten digits, enlarged to 120
pixels, black on white.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from mnistcli.reading.batch import decode_data, read_file
from mnistcli.reading.digit import DigitImage
from mnistcli.reading.pipeline import Segmentation, only_digit
from mnistcli.reading.predict import load_networks, read_pictures, read_segmentations
from mnistcli.reading.scoring import LabeledPicture, PictureScores, read_labels


def resize_and_invert(data: bytes) -> Segmentation:
    """The naive preprocessing, which takes every picture for one digit."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels_HW = np.asarray(picture.convert("L").resize((28, 28)))
    if pixels_HW.mean() > 127:
        pixels_HW = 255 - pixels_HW
    return only_digit(DigitImage(pixels_HW, (0, 0, 28, 28)), pixels_HW / np.float32(255))


def labeled_files(directory: Path) -> Iterator[tuple[str, bytes, str]]:
    """The name, content and label of every picture in the directory's label file."""
    for path, label in read_labels(directory / "labels.csv").items():
        yield path.name, read_file(str(path)), label.text


def enlarged_digits() -> Iterator[tuple[str, bytes, str]]:
    """The same for scikit-learn's digits, 8x8 with values 0 to 16."""
    digits = load_digits()
    for number, (ink_HW, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        page = Image.new("L", (120, 120), 255)
        ink = Image.fromarray(np.rint(255 - 255 / 16 * ink_HW).astype(np.uint8))
        page.paste(ink.resize((80, 80), Image.Resampling.BICUBIC), (20, 20))
        buffer = io.BytesIO()
        page.save(buffer, "PNG")
        yield f"{number}.png", buffer.getvalue(), str(label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path)
    directory = parser.parse_args().directory
    networks = load_networks()
    scores = {"naive": PictureScores({}), "mnist predict": PictureScores({})}
    for name, data, label in labeled_files(directory) if directory else enlarged_digits():
        picture = decode_data(data, name=name, single=False)
        readings = {
            "naive": read_segmentations(
                [resize_and_invert(data)], networks.reader, networks.models
            ),
            "mnist predict": read_pictures([picture], networks, single=False),
        }
        for method, score in scores.items():
            read = readings[method][0].text
            score.pictures.append(LabeledPicture(name, label, read, *picture.size))
    for method, score in scores.items():
        for kind, tally in score.tallies().items():
            low, high = tally.interval
            print(
                f"{method:14} {kind:24} {tally.num_correct:5,} of {tally.num:5,}"
                f"  {100 * tally.share:6.2f} %  ({100 * low:.2f} to {100 * high:.2f})"
            )


if __name__ == "__main__":
    main()
