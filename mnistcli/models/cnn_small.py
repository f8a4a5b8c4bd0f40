"""The parameter-budget network: the best reader of digits that fits in few weights.

Shapes: N images, C channels (1 at first, then the width), H rows, W columns, D features, K classes.
"""

from torch import Tensor, nn

# Each use of an unpadded 3x3 kernel takes two rows and two columns: six bring 13 pixels to one.
NUM_USES = 6


class CnnSmall(nn.Module):
    """A stem, one separable convolution used six times, one linear layer.

    The stem halves 28x28 pixels to 13x13; six times the same unpadded
    depthwise 3x3 and 1x1 convolution then bring them to one pixel, which a
    linear layer reads. So depth costs no weights (shared as in Lan et al.,
    ALBERT, 2019), and no layer is spent on places: without padding, how often
    a pixel is seen says where it lies.

    What differs between the uses is the batch norm after each: statistics and
    a shift of its own, no scale. Scales would cost two channels of width at
    1,000 parameters, which bring more (`docs/results.md`).

    `width` is the number of channels everywhere. Width 18 makes 964
    parameters, 30 makes 1,960, 55 makes 4,960, 73 makes 7,894: the widest
    under 1,000, 2,000, 5,000 and 8,000.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, bias=False),
            # Before the ReLU, a quarter of the pixels is left to do.
            nn.MaxPool2d(2),
            _ShiftingBatchNorm(width),
            nn.ReLU(inplace=True),
        )
        self.look = nn.Sequential(
            nn.Conv2d(width, width, 3, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
        )
        self.norms = nn.ModuleList(_ShiftingBatchNorm(width) for _ in range(NUM_USES))
        self.classify = nn.Linear(width, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, 10) for normalised float pictures of shape (N, 1, H, W)."""
        h_NCHW = self.stem(x_NCHW)
        for norm in self.norms:
            h_NCHW = norm(self.look(h_NCHW)).relu_()
        logits_NK: Tensor = self.classify(h_NCHW.flatten(1))
        return logits_NK


class _ShiftingBatchNorm(nn.BatchNorm2d):
    """Batch norm (Ioffe, Szegedy 2015) that learns a shift and no scale."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_parameter("weight", None)
