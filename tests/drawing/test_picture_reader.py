"""What the page is told about a picture and its digits."""

from torch import nn

from mnistcli.drawing.picture_reader import MAX_MAPS, PictureReader
from mnistcli.reading.predict import load_networks
from tests.helpers.figures import make_model


def test_networks_without_convolutions_have_no_feature_maps() -> None:
    linear = make_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    wide = make_model(nn.Sequential(nn.Conv2d(1, MAX_MAPS + 8, 5), nn.Flatten()))
    reader = PictureReader(load_networks([linear, wide]), ("linear", "wide"))
    [layer] = reader.feature_maps(bytes(784))
    assert (layer["network"], layer["num_maps"]) == ("wide", MAX_MAPS + 8)
    assert tuple(layer["shape"]) == (MAX_MAPS, 24, 24)
    assert PictureReader(load_networks([linear]), ("linear",)).feature_maps(bytes(784)) == []
