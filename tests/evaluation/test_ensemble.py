"""An ensemble is the mean of its members' probabilities."""

from pathlib import Path

import pytest
import torch.nn.functional as F

from mnistcli.data.datasets import DATASETS
from mnistcli.evaluation.eval_data import EvalData
from mnistcli.evaluation.evaluate import EvalOptions, evaluate_models
from tests.helpers.evaluation import count_errors, hundred_digits, load_models, probabilities


def test_an_ensemble_averages_the_probabilities(trained: Path) -> None:
    models, digits = load_models(trained), hundred_digits()
    data = EvalData(DATASETS["digits"], "test", digits)
    *alone, ensemble = evaluate_models(models, data, options=EvalOptions(ensemble=True))
    assert alone == evaluate_models(models, data)
    mean_NK = (probabilities(models[0], digits) + probabilities(models[1], digits)) / 2
    assert ensemble.score.num_errors == count_errors(mean_NK, digits)
    loss = F.nll_loss(mean_NK.double().log(), digits.labels_N).item()
    assert ensemble.score.loss == pytest.approx(loss, rel=1e-5)
    for mistake in ensemble.score.mistakes:
        assert mistake.probability == pytest.approx(mean_NK[mistake.index].max().item())
    assert ensemble.num_params == 7_882 + 26_698
    assert ensemble.members == tuple(str(loaded.path) for loaded in models)
    assert (ensemble.score.checkpoint, ensemble.recipe) == ("ensemble", "")
