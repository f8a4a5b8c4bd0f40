"""Stages of convolution and pooling, then linear layers.

Shapes: N images, C channels (1), H rows, W columns, D features, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class CNN(nn.Module):
    """Stages of convolution, 2x2 max pooling and ReLU, then hidden linear layers.

    `pool` is "each" for a pooling in every stage, "last" for one after the last
    convolution only. It comes before the ReLU: results and gradients are the
    same, and the ReLU processes a quarter of the pixels.

    With `batch_norm` every convolution is normalized over the batch, after the
    pooling too, and has no bias.

    Dropout acts on the flattened features and after every hidden layer.
    Channels (8, 16) with a padded 3x3 kernel and 32 hidden units make 26,698
    parameters; (6, 12) with 24 make 15,106; (32, 64) with an unpadded 5x5
    kernel and no hidden layer make 62,346; (10, 20) with 50 make 21,840.
    The network of PyTorch's own MNIST example, (32, 64) with an unpadded 3x3
    kernel, one pooling and 128 hidden units, has 1,199,882.

    Raises:
        ValueError: the stages leave no pixel.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        kernel_size: int,
        padding: int,
        hidden: Sequence[int],
        dropout: float,
        pool: str = "each",
        batch_norm: bool = False,
        input_px: int = 28,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        size_px, num_in = input_px, 1
        for stage, num_out in enumerate(channels, start=1):
            pools = pool == "each" or stage == len(channels)
            size_px = (size_px + 2 * padding - kernel_size + 1) // (2 if pools else 1)
            if size_px < 1:
                raise ValueError(
                    f"{len(channels)} stages with a {kernel_size}x{kernel_size} kernel shrink "
                    f"{input_px}x{input_px} pixels to nothing"
                )
            stages += [
                nn.Conv2d(num_in, num_out, kernel_size, padding=padding, bias=not batch_norm),
                *([nn.MaxPool2d(2)] if pools else []),
                *([nn.BatchNorm2d(num_out)] if batch_norm else []),
                nn.ReLU(inplace=True),
            ]
            num_in = num_out
        self.stages = nn.Sequential(*stages)

        sizes = [num_in * size_px * size_px, *hidden]
        self.hidden = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        for num_features, num_units in zip(sizes, hidden, strict=False):
            self.hidden.extend(
                [nn.Linear(num_features, num_units), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            )
        self.classify = nn.Linear(sizes[-1], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, K) for normalized float images of shape (N, 1, H, W)."""
        logits_NK: Tensor = self.classify(self.hidden(self.stages(x_NCHW)))
        return logits_NK
