"""Networks as ONNX files, by PyTorch's exporter.

Shapes: N images, H rows, W columns, K classes.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mnistcli.data.normalization import Normalization, normalize
from mnistcli.export.layers import ExportError, plain_modules

if TYPE_CHECKING:
    import numpy as np

# How many images onnxruntime processes at a time in the proof.
_BATCH_SIZE = 100


class _GlobalMean(nn.Module):
    """AdaptiveAvgPool2d(1), which the exporter writes as ten operators."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.mean(dim=(2, 3), keepdim=True)


class _ImageClassifier(nn.Module):
    """From images uint8 (N, 28, 28) to probabilities (N, K)."""

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(
                _GlobalMean() if isinstance(module, nn.AdaptiveAvgPool2d) else module
                for module in plain_modules(network, normalization.input_px)
            )
        )
        self.normalization = normalization

    def forward(self, images_NHW: Tensor) -> Tensor:
        logits_NK = self.network(normalize(images_NHW, self.normalization))
        probabilities_NK: Tensor = logits_NK.softmax(dim=1)
        return probabilities_NK


def onnx_model(
    network: nn.Module, normalization: Normalization, metadata: Mapping[str, str]
) -> bytes:
    """A network as the content of an ONNX file, with `metadata`.

    Its input `images` is uint8 (N, 28, 28) for any N, its output `probabilities` float32 (N, K).

    Raises:
        ExportError: onnx, onnxscript or onnxruntime is not installed.
    """
    require_onnx()
    program = torch.onnx.export(
        _ImageClassifier(network, normalization).eval(),
        (torch.zeros(2, 28, 28, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # Stack traces and the like, with the paths of this machine.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
    model.ClearField("metadata_props")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def run_onnx(content: bytes, images_NHW: Tensor) -> Tensor:
    """The probabilities (N, K) that onnxruntime computes on the CPU."""
    session = require_onnx().InferenceSession(content, providers=["CPUExecutionProvider"])
    batches: list[np.ndarray] = [
        session.run(None, {"images": batch_NHW.numpy()})[0]
        for batch_NHW in images_NHW.split(_BATCH_SIZE)
    ]
    return torch.cat([torch.from_numpy(batch_NK) for batch_NK in batches])


def require_onnx() -> ModuleType:
    """onnxruntime; raises ExportError if it or the exporter's packages are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            "ONNX files cannot be written here.",
            why=f"{error.name} is not installed.",
            fix='Install it: pip install ".[export]"',
        ) from error
    module: ModuleType = onnxruntime
    return module
