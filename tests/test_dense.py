import pytest
import torch

from whysgd.models.build import build_model
from whysgd.training.dense import dense_gradients, fastest_gradients
from whysgd.training.objective import Objective


@pytest.mark.parametrize("loss", ["cross_entropy", "linear_hinge"])
@pytest.mark.parametrize("model", ["fc_d2_w4", "fc_d5_w7"])
@pytest.mark.parametrize("shared", ["nothing", "images", "weights"])
def test_the_chain_rule_written_out_equals_autograd(loss, model, shared):
    torch.manual_seed(0)
    objective = Objective(build_model(model, 2, 3, 0, 5), loss=loss)
    k, parameters = 4, len(objective.parameters)
    theta = torch.randn(1 if shared == "weights" else k, parameters, dtype=torch.float64).expand(k, -1)
    images = torch.randn(1 if shared == "images" else k, 6, 2, 5, 5, dtype=torch.float64).expand(k, -1, -1, -1, -1)
    labels = torch.randint(0, 3, (k, 6))
    found, expected = (of(objective, theta, images, labels) for of in (dense_gradients, Objective.gradients))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_it_stands_in_for_fully_connected_networks_in_full_precision():
    dense, convolutional = (build_model(model, 1, 3, 0, 8) for model in ("fc_d2_w4", "conv1"))
    assert fastest_gradients(Objective(dense)) is dense_gradients
    others = {"smoothing": 0.1}, {"loss": "incorrect_cross_entropy"}, {"loss": "max_up"}
    for objective in (
        Objective(dense, torch.bfloat16), Objective(convolutional), *(Objective(dense, **one) for one in others),
    ):  # fmt: skip
        assert fastest_gradients(objective) is Objective.gradients
