"""A deep convolutional network on a 64x64 image.

Shapes: N images, C channels (1), H rows, W columns, D features, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class DeepCNN(nn.Module):
    """Stages of two 3x3 convolutions with batch norm and ReLU, 2x2 max pooling and dropout.

    Each stage halves the side of the image; global average pooling and one
    linear layer follow. Channels (16, 32, 64, 128) make eight convolutions and
    295,002 parameters; (64, 256, 512, 1024), about as many as published, make
    18,487,114.

    Raises:
        ValueError: the stages leave no pixel.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        dropout: float,
        input_px: int = 64,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if input_px >> len(channels) < 1:
            raise ValueError(
                f"{len(channels)} stages halve {input_px}x{input_px} pixels to nothing"
            )
        stages: list[nn.Module] = []
        num_in = 1
        for num_out in channels:
            stages += [
                *_convolution(num_in, num_out),
                *_convolution(num_out, num_out),
                nn.MaxPool2d(2),
                nn.Dropout(dropout),
            ]
            num_in = num_out
        self.stages = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(num_in, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, K) for normalized float images of shape (N, 1, H, W)."""
        logits_NK: Tensor = self.classify(self.stages(x_NCHW))
        return logits_NK


def _convolution(num_in: int, num_out: int) -> tuple[nn.Module, ...]:
    """A 3x3 convolution that keeps the image's size; batch norm makes a bias superfluous."""
    return (
        nn.Conv2d(num_in, num_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(inplace=True),
    )
