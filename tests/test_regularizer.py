import pytest
import torch
from networks import Smooth, dense, random_batches
from torch import nn
from torch.nn import functional as F

from whysgd import GradRegularizer
from whysgd.training.objective import Objective

LR = 0.6


@pytest.fixture
def setup():
    torch.manual_seed(0)
    model = Smooth().double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    (x, y), (x2, y2) = random_batches([5, 7])
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), model.parameters())
    pre_grads = torch.autograd.grad(F.cross_entropy(model(x2), y2), model.parameters())
    objective = Objective(model)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    g, hessian = dense(objective, theta, x, y)
    pre = torch.cat([p.flatten() for p in pre_grads])
    return model, optimizer, x, y, grads, pre_grads, g, hessian, pre


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.parametrize("acc", [0.0, 0.3])
@pytest.mark.parametrize(
    ("implementation", "tolerance"),
    [("autograd", 1e-10), ("central-differences", 1e-8), ("forward-differences", 1e-4), ("finite_diff", 1e-4)],
)
def test_every_implementation_is_the_dense_formula(setup, implementation, tolerance, acc):
    model, optimizer, x, y, grads, pre_grads, g, hessian, pre = setup
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy, 0.5, acc, 1e-4, implementation)
    ours = gradreg(grads, x, y, pre_grads=pre_grads if acc else None)
    expected = LR / 4 * hessian @ (0.5 * g + acc * pre)
    error = (flat(ours) - g - expected).norm() / expected.norm()
    assert error < tolerance
    assert [t.shape for t in ours] == [p.shape for p in model.parameters()]


@pytest.mark.parametrize("implementation", ["finite_diff", "central-differences", "autograd"])
@pytest.mark.parametrize("training", [True, False])
def test_parameters_buffers_mode_and_given_gradients_stay_exactly_as_they_are(setup, implementation, training):
    model, optimizer, x, y, grads, *_ = setup
    model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = [g.clone() for g in grads]
    GradRegularizer(model, optimizer, F.cross_entropy, implementation=implementation)(grads, x, y)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(given, grads, strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert model.training is training


def test_the_current_learning_rate_is_used(setup):
    model, optimizer, x, y, grads, _, g, *_ = setup
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy)
    full = flat(gradreg(grads, x, y)) - g
    optimizer.param_groups[0]["lr"] = LR / 2
    torch.testing.assert_close(flat(gradreg(grads, x, y)) - g, full / 2, rtol=1e-9, atol=1e-12)


def test_frozen_parameters_are_left_out(setup):
    model, optimizer, x, y, *_ = setup
    model.conv.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), trained)
    ours = GradRegularizer(model, optimizer, F.cross_entropy, implementation="autograd")(grads, x, y)
    assert [t.shape for t in ours] == [p.shape for p in trained]


@pytest.mark.parametrize(("implementation", "tolerance"), [("autograd", 1e-11), ("central-differences", 1e-6)])
def test_in_anyones_loop_it_descends_the_loss_plus_an_eighth_of_the_square_norm(implementation, tolerance):
    # g + (η/4) H (s g) is the gradient of L + (η/8) s ‖g‖²: half of the paper's text, as its code has it.
    (x, y), *_ = random_batches([32])
    strength, rate = 0.5, 0.3

    def run(regularized):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.Tanh(), nn.Linear(16, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        gradreg = GradRegularizer(model, optimizer, F.cross_entropy, strength, implementation=implementation)
        for _ in range(25):
            loss = F.cross_entropy(model(x), y)
            if regularized:
                grads = gradreg(torch.autograd.grad(loss, model.parameters()), x, y)
            else:
                g = torch.autograd.grad(loss, model.parameters(), create_graph=True)
                penalty = rate / 8 * strength * sum(part.square().sum() for part in g)
                grads = torch.autograd.grad(loss + penalty, model.parameters())
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.grad = grad
            optimizer.step()
        return flat(p.detach() for p in model.parameters())

    torch.testing.assert_close(run(True), run(False), rtol=tolerance, atol=tolerance)


def test_mixed_precision_works_with_the_exact_product_only(setup):
    model, optimizer, x, y, grads, _, g, hessian, _ = setup
    with pytest.raises(ValueError, match="bf16 gradients is noise"):
        GradRegularizer(model, optimizer, F.cross_entropy, mixed_precision=True)
    single = model.float()
    gradreg = GradRegularizer(single, optimizer, F.cross_entropy, implementation="autograd", mixed_precision=True)
    ours = flat(gradreg([g.float() for g in grads], x.float(), y)).double() - g
    expected = LR / 4 * hessian @ (0.5 * g)
    assert torch.cosine_similarity(ours, expected, 0) > 0.98


def test_differences_are_refused_where_they_are_noise(setup):
    model, optimizer, x, y, grads, *_ = setup
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy)
    with pytest.raises(ValueError, match="noise under autocast"), torch.autocast("cpu", torch.bfloat16):
        gradreg(grads, x, y)
    with pytest.raises(ValueError, match="noise with weights or gradients below fp32"):
        gradreg([g.bfloat16() for g in grads], x, y)
    wet = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(25, 3)).double()
    grads = torch.autograd.grad(F.cross_entropy(wet(x), y), wet.parameters())
    with pytest.raises(ValueError, match="noise with active dropout"):
        GradRegularizer(wet, optimizer, F.cross_entropy)(grads, x, y)
    assert len(GradRegularizer(wet.eval(), optimizer, F.cross_entropy)(grads, x, y)) == 2


def test_mistakes_are_named(setup):
    model, optimizer, x, y, grads, *_ = setup
    with pytest.raises(
        ValueError, match="implementation = 'magic': allowed: finite_diff, autograd, forward-differences"
    ):
        GradRegularizer(model, optimizer, F.cross_entropy, implementation="magic")
    with pytest.raises(ValueError, match="eps above 0"):
        GradRegularizer(model, optimizer, F.cross_entropy, eps=0)
    with pytest.raises(ValueError, match="pre_grads"):
        GradRegularizer(model, optimizer, F.cross_entropy, acc_strength=0.5)(grads, x, y)
    with pytest.raises(ValueError, match="1 gradients were given for 6 parameters"):
        GradRegularizer(model, optimizer, F.cross_entropy)(grads[:1], x, y)
