"""`state.pth`: what a resumed run continues from."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mnistcli.config.differences import differing_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError
from mnistcli.runs.archive import has_valid_tensors, load_archive, pack
from mnistcli.runs.directory import Run, damaged_file, write_file
from mnistcli.runs.history import EpochResult


class SavedState(BaseModel):
    """How far a run has come: all its epochs, and what `TrainState.state_dict` gave.

    `settings` are those that it was trained with.
    """

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
    """Write what a resumed run goes on from: plain types and tensors.

    Raises:
        RunError: the file cannot be written.
    """
    records = saved.model_dump(mode="json", exclude={"state"})
    write_file(run.state, pack({**records, "state": saved.state}))


def read_state(run: Run, settings: TrainSettings) -> SavedState | None:
    """What `save_state` wrote; None if the run has not finished an epoch. Runs no code.

    Raises:
        DataError: the state is damaged, missing though epochs were finished, or of other
            `settings` than those of the run.
    """
    if not run.state.exists():
        if not (run.path / "metrics.csv").exists():
            return None
        raise _not_resumable(run, "It holds no state.pth, which runs of an older version lack")
    try:
        content = load_archive(run.state)
        if not has_valid_tensors(content):
            raise damaged_file(run.state, "its tensors are not those of a training")
        saved = SavedState.model_validate(content)
    except DataError as error:
        raise _not_resumable(run, f"state.pth: {error.why}") from error
    except ValidationError as error:
        why = f"state.pth is damaged: {first_problem(error)}"
        raise _not_resumable(run, why) from error
    if changed := differing_settings(settings, saved.settings):
        why = f"settings.json is not what it was trained with: {', '.join(changed)} differs"
        raise _not_resumable(run, why)
    return saved


def _not_resumable(run: Run, why: str) -> DataError:
    return DataError(
        f"{run.path} cannot be resumed.",
        why=f"{why.rstrip('.')}.",
        fix=f"Train it anew: mnist train --config {run.path / 'settings.json'}",
    )
