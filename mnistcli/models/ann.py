"""A deep fully connected network with batch norm.

Shapes: N images, C channels (1), H rows, W columns, D features, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class ANN(nn.Module):
    """Hidden layers of linear, batch norm, ReLU and dropout on a 64x64 image.

    The linear layers have no bias, since batch norm would subtract it again.
    Hidden sizes (1024, 512, 256) make 4,855,818 parameters; (12288, 6144,
    6144, 3072), as published, make 182,538,250.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int],
        dropout: float,
        input_px: int = 64,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        sizes = [input_px * input_px, *hidden]
        self.hidden = nn.Sequential(nn.Flatten())
        for num_in, num_out in zip(sizes, hidden, strict=False):
            self.hidden.extend(
                [
                    nn.Linear(num_in, num_out, bias=False),
                    nn.BatchNorm1d(num_out),
                    nn.ReLU(inplace=True),
                    nn.Dropout(dropout),
                ]
            )
        self.classify = nn.Linear(sizes[-1], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, K) for normalized float images of shape (N, 1, H, W)."""
        logits_NK: Tensor = self.classify(self.hidden(x_NCHW))
        return logits_NK
