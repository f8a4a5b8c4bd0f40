"""A picture, or a digit of it -> what the page shows, as plain types for JSON.

Shapes: C channels, H rows, W columns.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from mnistcli.data.arrays import IMAGE_PX
from mnistcli.errors import DataError
from mnistcli.evaluation.features import feature_maps, has_convolutions
from mnistcli.reading.batch import decode_data
from mnistcli.reading.predict import Networks, Prediction, read_pictures

Record = dict[str, Any]

# How many layers the page shows, and how many feature maps of each.
MAX_LAYERS, MAX_MAPS = 2, 32


@dataclass(frozen=True)
class PictureReader:
    """Reads pictures by networks, with the names that the page shows for these."""

    networks: Networks
    names: tuple[str, ...]

    def warm_up(self) -> None:
        """Read a stroke: the first reading takes much longer than later ones."""
        picture = Image.new("L", (256, 256), 255)
        ImageDraw.Draw(picture).line([(150, 40), (100, 220)], fill=0, width=12)
        file = io.BytesIO()
        picture.save(file, "PNG")
        self.read(file.getvalue())

    def read(self, data: bytes) -> Record:
        """The digits in the content of a picture file, and the ink that is left out.

        Raises:
            DataError: it is damaged or not a picture.
        """
        picture = decode_data(data, name="the picture", single=False)
        [reading] = read_pictures([picture], self.networks, single=False)
        return {
            "read": reading.text,
            "doubts": reading.doubts,
            "size": picture.size,
            "digits": [_digit_record(prediction) for prediction in reading.predictions],
            "left_out": [
                {"box": left_out.box, "reason": left_out.reason} for left_out in reading.left_out
            ],
        }

    def feature_maps(self, pixels: bytes) -> list[Record]:
        """The feature maps of the first convolutions of each network that has any, for a digit.

        `pixels` are 28x28 bytes. Maps are bytes, one map after the other: the square root of the
        value as a share of the layer's largest, times 255.

        Raises:
            DataError: the digit has another size.
        """
        if len(pixels) != IMAGE_PX**2:
            raise DataError(f"A digit has {IMAGE_PX**2} pixels, not {len(pixels):,}.")
        image_HW = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(IMAGE_PX, IMAGE_PX)
        records = []
        for name, model in zip(self.names, self.networks.models, strict=True):
            layers = feature_maps(model, image_HW) if has_convolutions(model) else []
            for layer in layers[:MAX_LAYERS]:
                maps_CHW, largest = layer.maps_CHW[:MAX_MAPS], float(layer.maps_CHW.max())
                scaled_CHW = np.rint(255 * np.sqrt(maps_CHW / max(largest, 1e-6)))
                records.append(
                    {
                        "network": name,
                        "layer": layer.name,
                        "num_maps": len(layer.maps_CHW),
                        "shape": maps_CHW.shape,
                        "maps": _encode(scaled_CHW.astype(np.uint8).tobytes()),
                    }
                )
        return records


def _digit_record(prediction: Prediction) -> Record:
    return {
        "digit": prediction.label,
        "probabilities": list(prediction.probabilities.values()),
        "networks": prediction.by_network,
        "digit_probability": prediction.digit_probability,
        "box": prediction.digit.box,
        "line": prediction.line,
        "doubt": prediction.doubt,
        "input": _encode(prediction.digit.pixels_HW.tobytes()),
    }


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
