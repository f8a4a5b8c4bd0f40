"""The verdict on all checks of `mnist doctor`, and its exit code. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnistcli.diagnostics.checks import LOADING, Check
from mnistcli.errors import DataError, DeviceError, MnistError, count_noun

# The exit code of a failed check, by its name; all others are about a device.
_EXIT_CODES = {
    "data": DataError.exit_code,
    "directory": MnistError.exit_code,
    "versions": MnistError.exit_code,
    LOADING: MnistError.exit_code,
}


@dataclass(frozen=True)
class Verdict:
    """The verdict in a word, a sentence and an exit code."""

    word: Literal["ok", "warning", "failed"]
    sentence: str
    exit_code: int


def decide_verdict(checks: Sequence[Check]) -> Verdict:
    """The verdict on all checks.

    Exit code 4 where a device or a precision fails, else 3 where data are damaged,
    else 1 where anything else fails, else 0, also with warnings.
    """
    failed = [check for check in checks if check.status == "failed"]
    codes = [_EXIT_CODES.get(check.name, DeviceError.exit_code) for check in failed]
    ability = _describe_ability(checks)
    if not ability:
        # Damaged data or a full disk are not the reason.
        causes = [check for check in failed if check.name not in ("data", "directory")] or failed
        why = f"{causes[0].label}: {causes[0].finding}" if causes else "no device was tested"
        sentence = f"This machine cannot train: {why}."
        if causes and causes[0].name == "accelerators":  # another device may work
            sentence = f"The requested device cannot be used: {causes[0].finding}."
        return Verdict("failed", sentence, max(codes, default=MnistError.exit_code))
    sentence = f"This machine can train: {ability}"
    if failed:
        names = ", ".join(check.label for check in failed)
        sentence += f", but {count_noun(len(failed), 'check')} failed: {names}."
        return Verdict("failed", sentence, max(codes))
    num_warnings = sum(check.status == "warning" for check in checks)
    if num_warnings:
        return Verdict("warning", f"{sentence}, with {count_noun(num_warnings, 'warning')}.", 0)
    return Verdict("ok", f"{sentence}.", 0)


def _describe_ability(checks: Sequence[Check]) -> str:
    """How this machine trains: "cpu, bfloat16, 6,400 images/s"; empty where it cannot."""
    for check in checks:
        if (
            check.name == "training"
            and "images_per_second" in check.facts
            and check.status != "failed"
        ):
            speed = f"{check.facts['images_per_second']:,.0f} images/s"
            return f"{check.facts['device']}, {check.facts['precision']}, {speed}"
        if check.name == "training" and check.status == "failed":
            return ""
    if find_training_obstacle(checks):
        return ""
    # Not trained: the precision that auto would pick, on an accelerator before the CPU.
    picked = [check for check in checks if check.facts.get("auto") and check.status == "ok"]
    picked.sort(key=lambda check: check.subject == "cpu")
    return f"{picked[0].subject}, {picked[0].name}" if picked else ""


def find_training_obstacle(checks: Sequence[Check]) -> Check | None:
    """The check because of which a training would not start, crash or hang."""
    for check in checks:
        missing = check.name == "accelerators" and check.status == "failed"
        # Training uses the first GPU only.
        died = check.facts.get("died") and check.subject in ("", "cpu", "cuda:0", "mps")
        if missing or died:
            return check
    return None
