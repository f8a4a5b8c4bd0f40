"""The verdict on all checks, its sentence and its exit code."""

import pytest

from mnistcli.diagnostics.checks import Check
from mnistcli.diagnostics.verdict import decide_verdict

TRAINED = Check(
    "training",
    "",
    "ok",
    "validation accuracy 99 %",
    facts={"device": "cpu", "precision": "bfloat16", "images_per_second": 6400.4},
)
NOT_TRAINED = Check("training", "", "skipped", "turned off (--seconds 0)")
UNTRAINABLE = Check("training", "", "failed", "validation accuracy 12.0 %")
PICKED_CPU = Check("bfloat16", "cpu", "ok", "", facts={"auto": True})
PICKED_GPU = Check("float16", "cuda:0", "ok", "", facts={"auto": True})
NO_DATA = Check("data", "mnist", "warning", "not here")
DAMAGED = Check("data", "mnist", "failed", "damaged: x")
UNWRITABLE = Check("directory", "runs", "failed", "cannot be written")
BROKEN_GPU = Check("kernels", "cuda:0", "failed", "no kernel image is available")
NO_TORCH = Check("PyTorch", "", "failed", "libcudnn.so.9 is missing", facts={"died": True})
NO_GPU = Check("accelerators", "", "failed", "PyTorch finds no CUDA device")
HUNG_GPU = Check("kernels", "cuda:0", "failed", "no answer", facts={"died": True})


@pytest.mark.parametrize(
    ("checks", "word", "code", "parts"),
    [
        ([TRAINED], "ok", 0, ["can train: cpu, bfloat16, 6,400 images/s."]),
        ([NO_DATA, TRAINED], "warning", 0, ["can train: cpu, bfloat16, 6,400", "1 warning."]),
        ([PICKED_CPU, NOT_TRAINED], "ok", 0, ["can train: cpu, bfloat16."]),
        ([PICKED_CPU, PICKED_GPU, NOT_TRAINED], "ok", 0, ["can train: cuda:0, float16."]),
        ([DAMAGED, TRAINED], "failed", 3, ["can train: cpu", "1 check failed: mnist data."]),
        ([UNWRITABLE, TRAINED], "failed", 1, ["can train: cpu", "runs directory"]),
        ([DAMAGED, BROKEN_GPU, TRAINED], "failed", 4, ["2 checks", "mnist data, cuda:0 kernels"]),
        ([DAMAGED, UNTRAINABLE], "failed", 4, ["cannot train: training: validation accuracy 12"]),
        ([NO_TORCH], "failed", 1, ["cannot train: PyTorch: libcudnn.so.9 is missing."]),
        ([PICKED_CPU, HUNG_GPU], "failed", 4, ["cannot train: cuda:0 kernels: no answer."]),
        ([NO_GPU], "failed", 4, ["The requested device cannot be used: PyTorch finds no CUDA"]),
        ([DAMAGED, NOT_TRAINED], "failed", 3, ["cannot train: mnist data: damaged: x."]),
        ([], "failed", 1, ["cannot train"]),
    ],
)
def test_the_verdict(checks: list[Check], word: str, code: int, parts: list[str]) -> None:
    verdict = decide_verdict(checks)
    assert (verdict.word, verdict.exit_code) == (word, code)
    assert all(part in verdict.sentence for part in parts), verdict.sentence
