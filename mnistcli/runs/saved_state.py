"""`state.pth`: what a resumed run continues from."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli.config.differences import differing_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError
from mnistcli.runs.archive import has_valid_tensors, load_archive, pack
from mnistcli.runs.directory import Run, damaged_file, write_file
from mnistcli.runs.history import EpochResult


class SavedState(BaseModel):
    """The progress of a run: its settings, all its epochs, and `TrainState.state_dict()`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    settings: TrainSettings
    history: Annotated[list[EpochResult], Field(min_length=1)]
    state: dict[str, Any]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        numbers = [epoch.epoch for epoch in self.history]
        losses = self.state.get("losses")
        if not isinstance(losses, list) or numbers != list(range(1, len(losses) + 1)):
            raise ValueError("its epochs are not complete")
        return self


def save_state(run: Run, saved: SavedState) -> None:
    """Write `state.pth`: plain values and tensors.

    Raises:
        RunError: the file cannot be written.
    """
    records = saved.model_dump(mode="json", exclude={"state"})
    write_file(run.state, pack({**records, "state": saved.state}))


def read_state(run: Run, settings: TrainSettings) -> SavedState | None:
    """Read `state.pth`, running no code in it; None if the run has not finished an epoch.

    Raises:
        DataError: the state is damaged, missing though epochs are finished, or was trained with
            other settings than `settings`.
    """
    if not run.state.exists():
        if not (run.path / "metrics.csv").exists():
            return None
        raise _not_resumable(run, "It holds no state.pth, as runs of older versions do not")
    try:
        content = load_archive(run.state)
        if not has_valid_tensors(content):
            raise damaged_file(run.state, "It holds invalid tensors")
        saved = SavedState.model_validate(content)
    except DataError as error:
        raise _not_resumable(run, f"state.pth: {error.why}") from error
    except ValidationError as error:
        why = f"state.pth is damaged: {first_problem(error)}"
        raise _not_resumable(run, why) from error
    if changed := differing_settings(settings, saved.settings):
        why = f"settings.json has changed since it was trained: {', '.join(changed)}"
        raise _not_resumable(run, why)
    return saved


def _not_resumable(run: Run, why: str) -> DataError:
    return DataError(
        f"{run.path} cannot be resumed.",
        why=f"{why.rstrip('.')}.",
        fix=f"Train a new run: mnist train --config {run.path / 'settings.json'}",
    )
