"""ONNX files, run by onnxruntime."""

import sys

import pytest
import torch

from mnistcli.export.layers import ExportError
from mnistcli.export.onnx import onnx_model, require_onnx, run_onnx
from tests.helpers.exports import SMALLER, every_recipe, predictions, random_network
from tests.helpers.paths import REPOSITORY
from tests.helpers.training import some_digits

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@every_recipe
def test_onnxruntime_computes_what_pytorch_computes(recipe: str) -> None:
    network, normalization = random_network(recipe, **SMALLER.get(recipe, {}))
    content = onnx_model(network, normalization, {})
    expected = predictions(network, normalization, some_digits(120, "test"))
    for num in (1, 3, 120):
        examples = some_digits(num, "test")
        computed_NK = run_onnx(content, examples.images_NHW)
        torch.testing.assert_close(computed_NK, expected.probabilities_NK[:num], rtol=0, atol=1e-4)


def test_the_file_has_metadata_no_paths_and_shared_weights_once() -> None:
    content = onnx_model(*random_network("cnn-small"), {"classes": "0, 1", "accuracy": "99 %"})
    model = onnx.load_from_string(content)
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    assert shapes.count((64, 64, 1, 1)) == 1
    onnx.checker.check_model(model)
    assert {each.key: each.value for each in model.metadata_props} == {
        "classes": "0, 1",
        "accuracy": "99 %",
    }
    assert str(REPOSITORY).encode() not in content
    assert b"Traceback" not in content
    assert b"stack_trace" not in content


def test_the_input_is_bytes_and_any_number_of_images() -> None:
    model = onnx.load_from_string(onnx_model(*random_network("ann", hidden=[8]), {}))
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert images.type.tensor_type.shape.dim[0].dim_param
    assert [dim.dim_value for dim in images.type.tensor_type.shape.dim[1:]] == [28, 28]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError) as caught:
        require_onnx()
    assert caught.value.exit_code == 1
    assert ".[export]" in caught.value.fix
