"""A picture, or a digit of it -> what the page shows, as plain types for JSON.

Shapes: N digits, M networks, K classes, C channels, H rows, W columns.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from mnistcli.data.mnist_format import SIZE_PX
from mnistcli.data.normalization import normalize
from mnistcli.errors import DataError
from mnistcli.evaluation.features import feature_maps
from mnistcli.reading.batch import decode_data
from mnistcli.reading.predict import Networks, Prediction, read_pictures

Record = dict[str, Any]

# How many layers the page shows, and how many feature maps of each.
MAX_LAYERS, MAX_MAPS = 2, 32


@dataclass(frozen=True)
class PageReader:
    """The networks that read what is drawn, and the names that the page shows for them."""

    networks: Networks
    names: tuple[str, ...]

    def warm_up(self) -> None:
        """Read a stroke, because the first reading takes much longer than the next ones."""
        picture = Image.new("L", (256, 256), 255)
        ImageDraw.Draw(picture).line([(150, 40), (100, 220)], fill=0, width=12)
        file = io.BytesIO()
        picture.save(file, "PNG")
        self.read(file.getvalue())

    def read(self, data: bytes) -> Record:
        """The digits in the content of a picture file, and the ink that is left out.

        Raises:
            DataError: it is damaged, or no picture.
        """
        picture = decode_data(data, name="the picture", single=False)
        [reading] = read_pictures([picture], self.networks, single=False)
        return {
            "text": reading.text,
            "doubts": reading.doubts,
            "size": picture.size,
            "digits": [
                _digit_record(prediction) | {"networks": self._predictions(prediction)}
                for prediction in reading.predictions
            ],
            "left_out": [
                {"box": left_out.box, "reason": left_out.reason} for left_out in reading.left_out
            ],
        }

    @torch.inference_mode()
    def _predictions(self, prediction: Prediction) -> list[Record]:
        """What each network says; one that is alone has said it already."""
        if len(self.names) == 1:
            return [_network_record(prediction.probabilities)]
        x_1HW = torch.from_numpy(prediction.digit.pixels_HW)[None]
        records = []
        for model in self.networks.models:
            probabilities_1K = model.network(normalize(x_1HW, model.normalization)).softmax(dim=1)
            classes = model.card.classes
            records.append(
                _network_record(dict(zip(classes, probabilities_1K[0].tolist(), strict=True)))
            )
        return records

    def feature_maps(self, pixels: bytes) -> list[Record]:
        """Each network's feature maps of the first layers for a digit of 28x28 pixels.

        Maps are bytes, one after the other: the square root of the share of the largest value.

        Raises:
            DataError: the digit has another size.
            SettingsError: a network has no convolution.
        """
        if len(pixels) != SIZE_PX**2:
            raise DataError(f"A digit has {SIZE_PX**2} pixels, not {len(pixels):,}.")
        image_HW = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(SIZE_PX, SIZE_PX)
        records = []
        for name, model in zip(self.names, self.networks.models, strict=True):
            for layer in feature_maps(model, image_HW)[:MAX_LAYERS]:
                maps_CHW = layer.maps_CHW[:MAX_MAPS]
                scaled_CHW = np.rint(255 * np.sqrt(maps_CHW / max(float(maps_CHW.max()), 1e-6)))
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
    return _network_record(prediction.probabilities) | {
        "is_digit": prediction.digit_probability,
        "box": prediction.digit.box,
        "line": prediction.line,
        "doubt": prediction.doubt,
        "input": _encode(prediction.digit.pixels_HW.tobytes()),
    }


def _network_record(probabilities: dict[str, float]) -> Record:
    label = max(probabilities, key=probabilities.__getitem__)
    return {"label": label, "probabilities": list(probabilities.values())}


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
