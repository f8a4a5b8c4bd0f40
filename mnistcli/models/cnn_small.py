"""The parameter-budget network: the best reader of digits that fits in few weights.

Shapes: N images, C channels (1 at first, then the width), H rows, W columns, K classes.
"""

from torch import Tensor, nn

# Each use of an unpadded 3x3 kernel takes two rows and two columns: six bring 15 pixels to three.
_NUM_USES = 6


class CnnSmall(nn.Module):
    """A stem, one separable convolution used six times, the mean, one linear layer.

    The stem takes 28x28 pixels, with two more like those at the edge on every
    side, to 15x15; six times the same unpadded depthwise 3x3 and 1x1 convolution then
    bring them to 3x3, the mean of which a linear layer reads. So depth costs no
    weights (shared as in Lan et al., ALBERT, 2019), and the network reads the
    picture at nine places, two pixels apart, and averages its answers: what
    test-time augmentation does, for half as much computing again, and in
    training too. `docs/results.md` says what each brings.

    What differs between the uses is the batch norm after each: statistics and
    a shift of its own. Scales would cost two channels at 1,000 parameters.

    `width` is the number of channels everywhere. Width 18 makes 964
    parameters, 30 makes 1,960, 55 makes 4,960, 73 makes 7,894: the widest
    under 1,000, 2,000, 5,000 and 8,000.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=2, padding_mode="replicate", bias=False),
            # Before the ReLU, a quarter of the pixels is left to do.
            nn.MaxPool2d(2),
            ShiftBatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.separable = nn.Sequential(
            nn.Conv2d(width, width, 3, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
        )
        self.norms = nn.ModuleList(ShiftBatchNorm2d(width) for _ in range(_NUM_USES))
        self.relu = nn.ReLU(inplace=True)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(width, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, 10) for normalized float pictures of shape (N, 1, H, W)."""
        h_NCHW = self.stem(x_NCHW)
        for norm in self.norms:
            h_NCHW = self.relu(norm(self.separable(h_NCHW)))
        logits_NK: Tensor = self.classify(self.mean(h_NCHW).flatten(1))
        return logits_NK


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe, Szegedy 2015) that learns a shift and no scale."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_parameter("weight", None)
