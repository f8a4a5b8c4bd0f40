"""What teachers teach: values worked out by hand, and a learner that comes to answer as they do."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli import distillation, engine, runs, training
from mnistcli.checkpoints import load_model
from mnistcli.errors import DataError, SettingsError
from mnistcli.settings import Fold, TrainSettings, resolve
from tests.conftest import Mnist
from tests.test_engine import DIGITS, chosen, digits, normalisation, some_digits, started

QUICK = ("--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "3")


@pytest.fixture
def teachers(mnist: Mnist) -> list[str]:
    """Two networks of different kinds, a little trained."""
    mnist("train", *QUICK, "--name", "one")
    mnist("train", *QUICK, "--hidden", "30", "--seed", "1", "--name", "two")
    return ["runs/one/best.pth", "runs/two/best.pth"]


def test_the_loss_is_the_divergence_worked_out_by_hand() -> None:
    taught_NK = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    logits_NK = torch.tensor([[0.6, 0.6], [math.log(9) * 2, 0.0]])
    first = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    second = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    loss = distillation.loss(logits_NK, taught_NK, temperature=2.0)
    assert loss.item() == pytest.approx(2**2 * (first + second) / 2)


def test_who_answers_as_the_teachers_has_nothing_to_learn() -> None:
    logits_NK = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    taught_NK = (logits_NK / 3).softmax(dim=1)
    assert distillation.loss(logits_NK, taught_NK, temperature=3.0).item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_weight_parts_the_loss_between_labels_and_teachers() -> None:
    logits_NK = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    labels_N, taught_NK = torch.arange(8), torch.full((8, 10), 0.1)
    settings = chosen(distillation={"weight": 0.25, "temperature": 2})
    from_labels = engine._loss(logits_NK, labels_N, settings)
    from_teachers = distillation.loss(logits_NK, taught_NK, temperature=2)
    both = engine._loss(logits_NK, labels_N, settings, taught_NK)
    torch.testing.assert_close(both, 0.75 * from_labels + 0.25 * from_teachers)


def test_teachers_answer_as_they_would_alone_and_are_averaged(teachers: list[str]) -> None:
    teacher = distillation.load(teachers, DIGITS.classes)
    assert teacher
    pictures = some_digits(20)
    each = [
        engine.evaluate(load_model(Path(name)).network, pictures, normalisation(chosen()))
        for name in teachers
    ]
    wanted_NK = (each[0].probabilities_NK + each[1].probabilities_NK) / 2
    torch.testing.assert_close(teacher.probabilities(pictures.images_NHW, 1.0), wanted_NK)


def test_a_network_comes_to_answer_as_its_teacher_does_where_the_labels_are_wrong(
    teachers: list[str],
) -> None:
    """With all of the loss from the teacher, labels do not count."""
    settings = chosen(epochs=8, distillation={"weight": 1.0}, teacher=teachers[:1])
    right = digits("train")
    wrong = type(right)(right.images_NHW, (right.labels_N + 1) % 10)
    state = started(settings, wrong)
    state.teacher = distillation.load(teachers[:1], DIGITS.classes)
    list(engine.fit(state, wrong, some_digits(0), normalisation(settings)))
    judged = engine.evaluate(state.result, right, normalisation(settings))
    assert judged.accuracy > 0.9


def test_teachers_on_the_command_line_are_named_and_kept_as_files(
    mnist: Mnist, teachers: list[str]
) -> None:
    result = mnist("train", *QUICK, "--teacher", "one", "--teacher", teachers[1], "--name", "own")
    assert result.exit_code == 0
    settings = runs.read_settings(runs.Run(Path("runs/own")))
    assert settings.teacher == ("runs/one/best.pth", "runs/two/best.pth")
    alone = mnist("train", *QUICK, "--name", "alone")
    assert alone.exit_code == 0
    weights = [load_model(Path(f"runs/{name}/last.pth")).network for name in ("own", "alone")]
    assert not torch.equal(*(next(network.parameters()) for network in weights))


def test_a_run_that_had_a_teacher_resumes_to_the_same_bits(
    mnist: Mnist, teachers: list[str]
) -> None:
    taught = ("--teacher", teachers[0], "--schedule", "constant")
    mnist("train", *QUICK, *taught, "--name", "whole")
    mnist("train", *QUICK, *taught, "--epochs", "1", "--name", "part")
    assert mnist("train", "--resume", "part", "--epochs", "3").exit_code == 0
    whole, part = (load_model(Path(f"runs/{name}/last.pth")) for name in ("whole", "part"))
    for a, b in zip(whole.network.parameters(), part.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_whose_teacher_has_changed_is_not_resumed(mnist: Mnist, teachers: list[str]) -> None:
    mnist("train", *QUICK, "--teacher", teachers[0], "--name", "own")
    Path(teachers[0]).write_bytes(Path(teachers[1]).read_bytes())
    result = mnist("train", "--resume", "own", "--epochs", "5")
    assert result.exit_code == 3
    assert "its teachers are no longer the ones it learnt from" in result.stderr


@pytest.mark.parametrize("name", ["nobody", "nothing.pth"])
def test_a_teacher_that_is_not_there_costs_nothing(mnist: Mnist, name: str) -> None:
    result = mnist("train", *QUICK, "--teacher", name)
    assert result.exit_code == 3
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize(
    ("changes", "may_know"),
    [
        ({}, False),
        ({"seed": 1}, True),
        ({"val_size": 0.2}, True),
        ({"val_size": 0, "fold": Fold(number=1, of=3)}, True),
        ({"val_size": 0}, False),  # nothing is held out
        ({"dataset": "mnist", "seed": 1}, False),
    ],
)
def test_a_teacher_knows_what_is_held_out_unless_it_was_held_out_from_it_too(
    changes: dict[str, Any], may_know: bool, mnist: Mnist
) -> None:
    mnist("train", *QUICK, "--epochs", "1", "--name", "one")
    teacher = distillation.load(["runs/one/best.pth"], DIGITS.classes)
    assert teacher
    settings = runs.read_settings(runs.Run(Path("runs/one")))
    assert teacher.may_know(settings.model_copy(update=changes)) == may_know


def test_a_teacher_of_other_classes_is_refused(mnist: Mnist, teachers: list[str]) -> None:
    with pytest.raises(SettingsError, match="cannot teach here"):
        distillation.load(teachers, ("shirt", *DIGITS.classes[1:]))


def test_a_teacher_in_the_environment_is_one_file() -> None:
    resolved = resolve({"recipe": "mlp-50-50"}, environ={"MNIST_TEACHER": "my runs/a,b.pth"})
    assert resolved.settings.teacher == ("my runs/a,b.pth",)
    with pytest.raises(DataError):
        training.plan(resolved.settings)


def test_without_teachers_there_is_no_teacher() -> None:
    assert distillation.load((), DIGITS.classes) is None
    assert TrainSettings.model_fields["teacher"].default == ()
