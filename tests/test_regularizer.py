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


TOLERANCES = {"autograd": 1e-10, "central-differences": 1e-8, "forward-differences": 1e-4, "finite_diff": 1e-4,
              "autograd-pen": 1e-10}  # fmt: skip


@pytest.mark.parametrize("acc", [0.0, 0.3])
@pytest.mark.parametrize(("implementation", "tolerance"), TOLERANCES.items())
def test_every_implementation_is_the_dense_formula(setup, implementation, tolerance, acc):
    model, optimizer, x, y, grads, pre_grads, g, hessian, pre = setup
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy, 2, 0.5, acc, 1e-4, implementation)
    ours = gradreg(grads, x, y, pre_grads=pre_grads if acc else None)
    expected = LR / 4 * hessian @ (0.5 * g + acc * pre)
    error = (flat(ours) - g - expected).norm() / expected.norm()
    assert error < tolerance
    assert [t.shape for t in ours] == [p.shape for p in model.parameters()]


@pytest.mark.parametrize("implementation", ["finite_diff", "central-differences", "autograd"])
@pytest.mark.parametrize("training", [True, False])
def test_parameters_buffers_and_mode_stay_as_they_are_and_gradients_change_in_place(setup, implementation, training):
    model, optimizer, x, y, grads, *_ = setup
    model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given, old = list(grads), [g.clone() for g in grads]
    found = GradRegularizer(model, optimizer, F.cross_entropy, implementation=implementation)(given, x, y)
    assert found is given
    assert all(a is b and not torch.equal(a, c) for a, b, c in zip(given, grads, old, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training is training


def test_the_current_learning_rate_is_used(setup):
    model, optimizer, x, y, grads, _, g, *_ = setup
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy)
    full = flat(gradreg([part.clone() for part in grads], x, y)) - g
    optimizer.param_groups[0]["lr"] = LR / 2
    torch.testing.assert_close(flat(gradreg(grads, x, y)) - g, full / 2, rtol=1e-9, atol=1e-12)


def test_frozen_parameters_are_left_out(setup):
    model, optimizer, x, y, *_ = setup
    model.conv.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), trained)
    ours = GradRegularizer(model, optimizer, F.cross_entropy, implementation="autograd")(grads, x, y)
    assert [t.shape for t in ours] == [p.shape for p in trained]


CONFIGURED = [{"block_strength": block, "acc_strength": acc} for block, acc in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.3))]


@pytest.mark.parametrize("strengths", CONFIGURED)
@pytest.mark.parametrize("implementation", ["central-differences", "autograd", "autograd-pen"])
def test_a_loop_written_for_the_released_class_can_take_it(setup, strengths, implementation):
    """A full-batch step: gradients of micro-batches, changed in place, then a running mean of them in float64."""
    model, optimizer, *_ = setup
    config = {"norm": 2, **strengths, "eps": 1e-4, "implementation": implementation}
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy, **config, mixed_precision=False)
    batches, mean, full, expected = random_batches([5, 7, 4]), None, 0, 0
    objective, theta = Objective(model), flat(p.detach() for p in model.parameters())
    for x, y in batches:
        full = full + dense(objective, theta, x, y)[0] / len(batches)
    for x, y in batches:
        g, hessian = dense(objective, theta, x, y)
        v = strengths["block_strength"] * g + strengths["acc_strength"] * full
        expected = expected + (g + LR / 4 * hessian @ v) / len(batches)
    pre_grads = [part.float() for part in objective.parameters.views(full).values()] if full is not None else None
    for number, (x, y) in enumerate(batches, 1):
        loss = F.cross_entropy(model(x), y)
        grads = list(torch.autograd.grad(loss, model.parameters(), create_graph=gradreg.create_graph))
        gradreg(grads, x, y, pre_grads if strengths["acc_strength"] else None)
        mean = [torch.zeros_like(g) for g in grads] if mean is None else mean
        torch._foreach_sub_(grads, mean)
        torch._foreach_add_(mean, grads, alpha=1 / number)
    assert (flat(mean) - expected).norm() < 1e-6 * expected.norm()


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
    allowed = "finite_diff, autograd, autograd-pen, forward-differences"
    for options, message in (
        ({"implementation": "magic"}, f"implementation = 'magic': allowed: {allowed}"),
        ({"norm": 1}, "norm = 1: must be 2"), ({"eps": 0}, "eps above 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            GradRegularizer(model, optimizer, F.cross_entropy, **options)
    with pytest.raises(ValueError, match="pre_grads"):
        GradRegularizer(model, optimizer, F.cross_entropy, acc_strength=0.5)(grads, x, y)
    with pytest.raises(ValueError, match="1 gradients were given for 6 parameters"):
        GradRegularizer(model, optimizer, F.cross_entropy)(grads[:1], x, y)
