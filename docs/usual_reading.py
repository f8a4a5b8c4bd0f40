"""`mnist predict` against the usual way to prepare a picture, with the same weights.

$ python docs/usual_reading.py PICTURES
$ python docs/usual_reading.py

The usual way is the one of most MNIST scripts: convert to grey, resize to 28x28, invert if the
picture is mostly light. PICTURES is a directory with a file labels.csv (columns file,label);
without one, both read scikit-learn's 1,797 handwritten digits, enlarged to 120 pixels, black on
white paper.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from mnistcli.reading.batch import read_input
from mnistcli.reading.decode import decode_picture
from mnistcli.reading.pipeline import DigitImage, read_digits
from mnistcli.reading.predict import predict_digits, predictions_to_text
from mnistcli.reading.scoring import LabeledPicture, PictureScores, read_labels
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint


def usual(data: bytes) -> DigitImage:
    """The one digit that the usual way takes every picture for."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels_HW = np.asarray(picture.convert("L").resize((28, 28)))
    if pixels_HW.mean() > 127:
        pixels_HW = 255 - pixels_HW
    return DigitImage(pixels_HW, (0, 0, 28, 28))


def labelled_files(directory: Path) -> Iterator[tuple[str, bytes, str]]:
    """The name, content and label of every picture in the directory's label file."""
    for path, label in read_labels(directory / "labels.csv").items():
        yield path.name, read_input(str(path)), label


def enlarged_digits() -> Iterator[tuple[str, bytes, str]]:
    """The same for scikit-learn's digits, 8x8 with values 0 to 16."""
    found = load_digits()
    for number, (ink_HW, label) in enumerate(zip(found.images, found.target, strict=True)):
        paper = Image.new("L", (120, 120), 255)
        ink = Image.fromarray(np.rint(255 - 255 / 16 * ink_HW).astype(np.uint8))
        paper.paste(ink.resize((80, 80), Image.Resampling.BICUBIC), (20, 20))
        buffer = io.BytesIO()
        paper.save(buffer, "PNG")
        yield f"{number}.png", buffer.getvalue(), str(label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="?", type=Path)
    directory = parser.parse_args().pictures
    models = [load_checkpoint(BUNDLED_CHECKPOINT)]
    scores = {"usual": PictureScores(), "mnist predict": PictureScores()}
    for name, data, label in labelled_files(directory) if directory else enlarged_digits():
        picture = decode_picture(data, name=name)
        found = {"usual": [((usual(data),),)], "mnist predict": read_digits(picture)}
        for way, score in scores.items():
            read = predictions_to_text(predict_digits(models, [found[way]])[0])
            score.readings.append(
                LabeledPicture(name, label, read, picture.width_px, picture.height_px)
            )
    for way, score in scores.items():
        for kind, tally in score.tallies().items():
            low, high = tally.interval
            print(
                f"{way:14} {kind:24} {tally.num_correct:5,} of {tally.num:5,}"
                f"  {100 * tally.num_correct / tally.num:6.2f} %"
                f"  ({100 * low:.2f} to {100 * high:.2f})"
            )


if __name__ == "__main__":
    main()
