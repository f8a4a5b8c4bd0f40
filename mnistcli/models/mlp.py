"""A small multilayer perceptron on the 784 pixels.

Shapes: N images, C channels (1), H rows, W columns, D features, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Hidden layers of linear, ReLU and dropout.

    Hidden sizes (120, 84) make 105,214 parameters, (50, 50) make 42,310.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int],
        dropout: float,
        input_px: int = 28,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        sizes = [input_px * input_px, *hidden]
        self.hidden = nn.Sequential(nn.Flatten())
        for num_in, num_out in zip(sizes, hidden, strict=False):
            self.hidden.extend(
                [nn.Linear(num_in, num_out), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            )
        self.classify = nn.Linear(sizes[-1], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, K) for normalized float images of shape (N, 1, H, W)."""
        logits_NK: Tensor = self.classify(self.hidden(x_NCHW))
        return logits_NK
