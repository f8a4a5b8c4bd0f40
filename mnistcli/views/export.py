"""What `mnist export` prints."""

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from mnistcli.config.dataset_names import dataset_title
from mnistcli.export.export import Exported
from mnistcli.export.proof import Proof
from mnistcli.views.console import (
    format_percent,
    print_json,
    print_line,
    print_note,
    stdout,
)

# More than most microcontrollers have.
_LARGE_FLASH_BYTES, _LARGE_RAM_BYTES = 2**20, 2**18
# More than quantization usually costs, in 0..1.
_NOTED_LOSS = 0.0005


@dataclass(frozen=True)
class ExportRecord:
    """The files of an exported network; the memory that C needs; null where it is not proved."""

    file: str
    files: list[str]
    num_bytes: int
    flash_bytes: int | None
    ram_bytes: int | None
    proof: Proof | None


def show_export(exported: Exported, *, as_json: bool, quiet: bool) -> None:
    """The files, the memory they need, and the proof; quiet: the file that was asked for."""
    if as_json:
        print_json(_record(exported))
    elif quiet:
        print_line(str(_main_file(exported.paths)))
    else:
        _print(exported)
    for note in _notes(exported):
        print_note(note)


def _main_file(paths: list[Path]) -> Path:
    return next(path for path in paths if path.suffix != ".h")


def _record(exported: Exported) -> ExportRecord:
    source = exported.source
    return ExportRecord(
        file=str(_main_file(exported.paths)),
        files=list(map(str, exported.paths)),
        num_bytes=exported.num_bytes,
        flash_bytes=source.flash_bytes if source else None,
        ram_bytes=source.ram_bytes if source else None,
        proof=exported.proof,
    )


def _print(exported: Exported) -> None:
    lines = [f"Wrote {', '.join(map(str, exported.paths))} ({exported.num_bytes:,} bytes)"]
    if exported.source:
        lines.append(
            f"Flash {exported.source.flash_bytes:,} bytes of constants, "
            f"RAM {exported.source.ram_bytes:,} bytes"
        )
    if exported.proof:
        lines += _describe(exported.proof)
    for line in lines:
        stdout().print(Text(line), soft_wrap=True)


def _describe(proof: Proof) -> list[str]:
    agreement = (
        f"Same prediction as PyTorch: {proof.num_agreeing:,} of {proof.num_images:,} test images "
        f"of {dataset_title(proof.dataset)}; "
        f"largest difference of a probability: {proof.largest_difference:.2g}"
    )
    lines = [agreement]
    if proof.accuracy is not None:
        lines.append(
            f"Accuracy {format_percent(proof.accuracy)}, "
            f"PyTorch's {format_percent(proof.torch_accuracy)}"
        )
    return lines


def _notes(exported: Exported) -> list[str]:
    source, proof, notes = exported.source, exported.proof, []
    if source and (source.flash_bytes > _LARGE_FLASH_BYTES or source.ram_bytes > _LARGE_RAM_BYTES):
        notes.append(
            "This is too large for most microcontrollers (1 MiB of flash, 256 KiB of RAM)."
        )
    if proof is None:
        notes.append(
            "Not proved: there is no C compiler (cc) here. Export again where there is one."
        )
    elif proof.loss and proof.loss > _NOTED_LOSS:
        notes.append(f"int8 costs {100 * proof.loss:.2f} points of accuracy.")
    return notes
