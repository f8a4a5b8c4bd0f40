"""The parameter-budget network: high accuracy with few parameters.

Shapes: N images, C channels (1 at first, then the width), H rows, W columns, K classes.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

# A CPU computes in whole registers, AVX2's of 32 bytes: 8 values in float32, 16 in bfloat16.
_REGISTER_BYTES = 32
# Images per thread and chunk: the map that the stem pools then fits in a core's cache.
_IMAGES_IN_CACHE = 16


class SmallCNN(nn.Module):
    """A stem, a separable convolution applied again and again, average pooling, one linear layer.

    The stem, a convolution and 2x2 max pooling, reduces the 28x28 image to
    15x15 positions with a `kernel_size` of 3, to 13x13 with 5 and to 11x11
    with 7. A depthwise 3x3 and a pointwise 1x1 convolution without padding,
    applied six, five or four times, reduce that to 3x3, and their mean feeds
    the linear layer. Sharing the weights (as ALBERT does, Lan et al. 2019)
    makes depth cost no parameters. The nine positions see the image shifted by
    two pixels each, for which the stem extends its border by up to two pixels:
    their mean has the effect of test-time augmentation, in training too, for
    half as much computing again. `docs/results.md` measures what each part
    contributes.

    The pointwise weights are the same every time. There are `depthwise`
    kernels for every channel, the first for the first repetitions and so on.
    Each repetition has a batch norm of its own, with a shift and no scale:
    scales would cost two channels at 1,000 parameters.

    `width` is the number of channels of every layer. Width 14 makes 696
    parameters, 18 makes 964, 30 makes 1,960, 55 makes 4,960: the widest under
    700, 1,000, 2,000 and 5,000. Width 64 with a `kernel_size` of 5 and two `depthwise` kernels
    makes 7,882, under 8,000.

    On a CPU, batches take a faster path with the same result up to rounding
    (`docs/performance.md`): channels of zeros pad the width to whole
    registers, and the stem runs on a few images at a time. Forward hooks of
    the convolutions are called for single images only.
    """

    def __init__(
        self, *, width: int, kernel_size: int = 3, depthwise: int = 1, num_classes: int = 10
    ) -> None:
        super().__init__()
        padding = (7 - kernel_size) // 2
        # Each repetition takes away two rows and columns; three remain.
        num_repeats = (28 + 2 * padding - kernel_size + 1) // 4 - 1
        self._width, self._padding = width, padding
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, kernel_size, padding=padding, padding_mode="replicate", bias=False),
            # Before batch norm and ReLU, which then process a quarter of the pixels.
            nn.MaxPool2d(2),
            ShiftBatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, 3, groups=width, bias=False) for _ in range(depthwise)
        )
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.norms = nn.ModuleList(ShiftBatchNorm2d(width) for _ in range(num_repeats))
        self.relu = nn.ReLU(inplace=True)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(width, num_classes)
        self.register_load_state_dict_pre_hook(_rename_old_weights)  # type: ignore[no-untyped-call]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits of shape (N, K) for normalized float images of shape (N, 1, H, W)."""
        if x_NCHW.device.type == "cpu" and len(x_NCHW) > 1:
            h_NCHW = self._convolve_batch_on_cpu(x_NCHW)
        else:
            h_NCHW = self.stem(x_NCHW)
            for repeat, norm in enumerate(self.norms):
                depthwise = self.depthwise[self._depthwise_of(repeat)]
                h_NCHW = self.relu(norm(self.pointwise(depthwise(h_NCHW))))
        logits_NK: Tensor = self.classify(self.mean(h_NCHW).flatten(1))
        return logits_NK

    def _depthwise_of(self, repeat: int) -> int:
        return repeat * len(self.depthwise) // len(self.norms)

    def _convolve_batch_on_cpu(self, x_NCHW: Tensor) -> Tensor:
        """All layers up to the mean over positions; (N, width, 3, 3)."""
        # Cast here, not by autocast, because the padding depends on the dtype.
        dtype = (
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_NCHW.dtype
        )
        # The batch norm of several processes (`training/distributed.py`) takes no added channels.
        adds = isinstance(self.norms[0], ShiftBatchNorm2d)
        num_added = -self._width % (_REGISTER_BYTES // dtype.itemsize) if adds else 0
        add_filters = (0, 0, 0, 0, 0, 0, 0, num_added)
        stem_CIHW = F.pad(cast("nn.Conv2d", self.stem[0]).weight, add_filters).to(dtype)
        depthwise = [
            F.pad(cast("nn.Conv2d", layer).weight, add_filters) for layer in self.depthwise
        ]
        pointwise_CIHW = F.pad(self.pointwise.weight, (0, 0, 0, 0, 0, num_added, 0, num_added))

        x_NCHW = F.pad(x_NCHW, (self._padding,) * 4, mode="replicate").to(dtype)
        h_NCHW: Tensor = self.stem[2:](_ConvPool.apply(x_NCHW, stem_CIHW))
        for repeat, norm in enumerate(self.norms):
            weight_CIHW = depthwise[self._depthwise_of(repeat)]
            h_NCHW = F.conv2d(h_NCHW, weight_CIHW, groups=len(weight_CIHW))
            h_NCHW = self.relu(norm(F.conv2d(h_NCHW, pointwise_CIHW)))
        return h_NCHW[:, : self._width]


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015) that learns a shift and no scale.

    Accepts more channels than `num_features`: they have to be zero, and stay zero.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_parameter("weight", None)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalized values of the same shape (N, C, H, W)."""
        num_added = x_NCHW.shape[1] - self.num_features
        if not num_added:
            return super().forward(x_NCHW)
        tensors = (self.running_mean, self.running_var, self.bias)
        mean_C, var_C, shift_C = (F.pad(tensor, (0, num_added)) for tensor in tensors)
        y_NCHW = F.batch_norm(
            x_NCHW, mean_C, var_C, None, shift_C, self.training, self.momentum, self.eps
        )
        if self.training:
            self.running_mean.copy_(mean_C[: self.num_features])
            self.running_var.copy_(var_C[: self.num_features])
            self.num_batches_tracked += 1
        return y_NCHW


class _ConvPool(torch.autograd.Function):
    """An unpadded convolution and 2x2 max pooling, a few images at a time.

    The convolution's output is by far the network's largest map. It is never stored whole: of it,
    the backward pass needs the positions of the maxima only.
    """

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_CIHW: Tensor) -> Tensor:
        """The pooled map (N, C, H // 2, W // 2) of images (N, I, H, W)."""
        pooled = [
            F.max_pool2d(F.conv2d(chunk_NCHW, weight_CIHW), 2, return_indices=True)
            for chunk_NCHW in x_NCHW.split(_IMAGES_IN_CACHE * torch.get_num_threads())
        ]
        ctx.save_for_backward(x_NCHW, weight_CIHW, *(positions for _, positions in pooled))
        return torch.cat([maxima_NCHW for maxima_NCHW, _ in pooled])

    @staticmethod
    def backward(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, Tensor]:
        """The gradients of the images, if they need one, and of the weight."""
        x_NCHW, weight_CIHW, *positions = ctx.saved_tensors
        size = [x_NCHW.shape[axis] - weight_CIHW.shape[axis] + 1 for axis in (2, 3)]
        nums = [len(chunk_positions) for chunk_positions in positions]
        # In float32, since rounding the sum to bfloat16 after every chunk would add up.
        sum_dtype = torch.promote_types(weight_CIHW.dtype, torch.float32)
        grad_x, grad_weight_CIHW = [], torch.zeros_like(weight_CIHW, dtype=sum_dtype)
        for chunk_NCHW, chunk_grad_NCHW, chunk_positions in zip(
            x_NCHW.split(nums), grad_NCHW.split(nums), positions, strict=True
        ):
            map_grad_NCHW = F.max_unpool2d(
                chunk_grad_NCHW, chunk_positions, [2, 2], output_size=size
            )
            grad_weight_CIHW += conv2d_weight(chunk_NCHW, weight_CIHW.shape, map_grad_NCHW)
            if ctx.needs_input_grad[0]:
                grad_x.append(conv2d_input(chunk_NCHW.shape, weight_CIHW, map_grad_NCHW))
        return torch.cat(grad_x) if grad_x else None, grad_weight_CIHW.to(weight_CIHW.dtype)


def _rename_old_weights(_: nn.Module, state_dict: dict[str, Any], prefix: str, *_args: Any) -> None:
    """Load checkpoints from before there could be several depthwise kernels."""
    for old, new in (("separable.0", "depthwise.0"), ("separable.1", "pointwise")):
        if f"{prefix}{old}.weight" in state_dict:
            state_dict[f"{prefix}{new}.weight"] = state_dict.pop(f"{prefix}{old}.weight")
