"""The parameter-budget network: high accuracy with few parameters.

Shapes: N images, C channels (1 at first, then the width), H rows, W columns, K classes.
"""

from torch import Tensor, nn

# An unpadded 3x3 convolution takes away two rows and two columns: six reduce 15 pixels to three.
_NUM_REPEATS = 6


class SmallCNN(nn.Module):
    """A stem, one separable convolution applied six times, average pooling, one linear layer.

    The stem pads the 28x28 image with two copies of its border and reduces it
    to 15x15. The same unpadded depthwise 3x3 and pointwise 1x1 convolution,
    applied six times, reduces that to 3x3 positions, and their mean feeds the
    linear layer. Sharing the weights (as ALBERT does, Lan et al. 2019) makes
    depth cost no parameters. The nine positions see the image shifted by two
    pixels each: their mean has the effect of test-time augmentation, in
    training too, for half as much computing again. `docs/results.md` measures
    what each part contributes.

    Each repetition has a batch norm of its own, with a shift and no scale:
    scales would cost two channels at 1,000 parameters.

    `width` is the number of channels of every layer. Width 18 makes 964
    parameters, 30 makes 1,960, 55 makes 4,960, 73 makes 7,894: the widest
    under 1,000, 2,000, 5,000 and 8,000.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=2, padding_mode="replicate", bias=False),
            # Before batch norm and ReLU, which then process a quarter of the pixels.
            nn.MaxPool2d(2),
            ShiftBatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.separable = nn.Sequential(
            nn.Conv2d(width, width, 3, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
        )
        self.norms = nn.ModuleList(ShiftBatchNorm2d(width) for _ in range(_NUM_REPEATS))
        self.relu = nn.ReLU(inplace=True)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(width, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, 10) for normalized float images of shape (N, 1, H, W)."""
        h_NCHW = self.stem(x_NCHW)
        for norm in self.norms:
            h_NCHW = self.relu(norm(self.separable(h_NCHW)))
        logits_NK: Tensor = self.classify(self.mean(h_NCHW).flatten(1))
        return logits_NK


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015) that learns a shift and no scale."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_parameter("weight", None)
