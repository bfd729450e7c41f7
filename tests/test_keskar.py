import pytest
import torch
from measured import images, loss_of, network
from torch.nn import functional as F

from whysgd import ComputeKeskarSharpness
from whysgd.measures.keskar import keskar, keskar_sharpness
from whysgd.models.build import build_model
from whysgd.streams import stream


class Quadratic(torch.nn.Module):
    """f(θ) = ½ Σ h_i (θ_i − c_i)², whatever the inputs."""

    def __init__(self, theta):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, inputs):
        return self.theta.expand(len(inputs), -1)


H = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
C = torch.tensor([0.0, 2.0, -3.0], dtype=torch.float64)
BATCHES = [(torch.zeros(n, 1), torch.zeros(n)) for n in (4, 4, 3)]


def quadratic(outputs, labels):
    return 0.5 * (H * (outputs - C) ** 2).sum(1).mean()


def box_maximum(theta, epsilon):
    """A convex function is largest in a corner of the box; this one is a sum, so entry by entry."""
    total = 0.0
    for h, c, t in zip(H.tolist(), C.tolist(), theta, strict=True):
        radius = epsilon * (abs(t) + 1)
        total += max(0.5 * h * (t + sign * radius - c) ** 2 for sign in (-1, 1))
    return total


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
@pytest.mark.parametrize("theta", [[1.0, 1.0, 1.0], [-0.5, 2.5, 0.0]])
def test_a_quadratics_box_maximum_is_found(theta, epsilon):
    model = Quadratic(theta)
    found = keskar_sharpness(model, quadratic, BATCHES, epsilon, lr=1e-2, steps=600)
    low = sum(0.5 * h * (t - c) ** 2 for h, c, t in zip(H.tolist(), C.tolist(), theta, strict=True))
    high = box_maximum(theta, epsilon)
    assert found.loss == pytest.approx(low, rel=1e-12)
    assert found.raised_loss == pytest.approx(high, rel=1e-12)
    assert found.sharpness == pytest.approx(100 * (high - low) / (1 + low), rel=1e-6)
    assert model.theta.tolist() == theta


def test_a_minimum_of_a_flat_function_has_no_sharpness():
    found = keskar_sharpness(Quadratic([1.0, 1.0, 1.0]), lambda outputs, _: (0 * outputs).sum(), BATCHES, steps=3)
    assert (found.sharpness, found.loss, found.raised_loss) == (0.0, 0.0, 0.0)


@pytest.fixture
def trained():
    """A network with batch norm in training mode, with gradients of its own, and data."""
    torch.manual_seed(0)
    model = build_model("resnet_mini", 1, 3, seed=0)
    inputs, labels = torch.randn(40, 1, 8, 8), torch.randint(0, 3, (40,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(inputs), labels).backward()
        optimizer.step()
    model.blocks.eval()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=16)
    return model, optimizer, loader


def test_measuring_leaves_everything_as_it_was(trained):
    model, optimizer, loader = trained

    def everything():
        states = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        gradients = [p.grad.clone() for p in model.parameters()]
        buffers = [state["momentum_buffer"].clone() for state in optimizer.state.values()]
        return states, gradients, buffers, [m.training for m in model.modules()], torch.get_rng_state()

    before = everything()
    value = ComputeKeskarSharpness(model, optimizer, F.cross_entropy, loader, 1e-3, 0.1, 20).compute_sharpness()
    assert value > 0
    after = everything()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert all(torch.equal(a, b) for i in (1, 2) for a, b in zip(before[i], after[i], strict=True))
    assert before[3] == after[3]
    assert torch.equal(before[4], after[4])


def test_it_is_measured_in_evaluation_mode_with_fixed_buffers(trained):
    model, _, loader = trained
    found = keskar_sharpness(model, F.cross_entropy, loader, 1e-3, 0.1, 20)
    model.eval()
    inputs, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert found.loss == pytest.approx(F.cross_entropy(model(inputs), labels).item(), rel=1e-5)
    # The obvious way: one mini-batch after another, projected after each.
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    batches = list(loader)
    for step in range(20):
        x, y = batches[step % 3]
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            for name, p, g in zip(names, parameters, gradients, strict=True):
                radius = 1e-3 * (start[name].abs() + 1)
                p.add_(0.1 * g)
                p.copy_(start[name] + (p - start[name]).clamp(-radius, radius))
    assert found.raised_loss == pytest.approx(F.cross_entropy(model(inputs), labels).item(), rel=1e-5)
    assert found.raised_loss > found.loss


def test_only_the_optimizers_parameters_move(trained):
    model, _, loader = trained
    head = torch.optim.SGD(model.head.parameters(), lr=0.1)
    own = ComputeKeskarSharpness(model, head, F.cross_entropy, loader, 1e-3, 0.1, 20).compute_sharpness()
    everything = keskar_sharpness(model, F.cross_entropy, loader, 1e-3, 0.1, 20).sharpness
    assert 0 < own < everything


@pytest.mark.parametrize(
    ("kind", "options"),
    [(torch.optim.SGD, {}), (torch.optim.SGD, {"maximize": True}), (torch.optim.Adam, {})],
    ids=["SGD", "SGD that maximizes", "Adam"],
)
def test_any_optimizer_can_ascend(kind, options):
    theta = [1.0, 1.0, 1.0]
    model = Quadratic(theta)
    optimizer = kind(model.parameters(), lr=99.0, **options)
    found = keskar_sharpness(model, quadratic, BATCHES, 1e-3, 1e-2, 600, optimizer)
    assert found.raised_loss == pytest.approx(box_maximum(theta, 1e-3), rel=1e-12)
    assert model.theta.tolist() == theta
    assert (model.theta.grad, len(optimizer.state), optimizer.param_groups[0]["lr"]) == (None, 0, 99.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_momentum_and_weight_decay_are_those_of_the_optimizer(momentum, decay):
    model, lr = Quadratic([1.0, 1.5, -1.0]), 1e-3
    groups = [{"params": [model.theta], "weight_decay": decay}]
    optimizer = torch.optim.SGD(groups, lr=99.0, momentum=momentum, weight_decay=5.0)
    found = keskar_sharpness(model, quadratic, BATCHES, 10.0, lr, 7, optimizer)
    at, velocity = model.theta.detach().clone(), 0.0
    for _ in range(7):
        velocity = momentum * velocity + H * (at - C) - decay * at
        at = at + lr * velocity
    assert found.raised_loss == pytest.approx((0.5 * H * (at - C) ** 2).sum().item(), rel=1e-12)
    assert found.raised_loss > found.loss


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 0}, "must be above 0"), ({"lr": -1}, "must be above 0"), ({"steps": 0}, "must be above 0"),
        ({"batches": []}, "trainloader: has no batches"),
        ({"batches": iter(BATCHES)}, "trainloader: must be a collection that can be gone through more than once"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        keskar_sharpness(Quadratic([1.0, 1.0, 1.0]), quadratic, **{"batches": BATCHES, **wrong})


SGDS = [({}, 0.9, 0.0), ({"momentum": 0.0}, 0.0, 0.0), ({"momentum": 0.5, "weight_decay": 0.05}, 0.5, 0.05)]


@pytest.mark.parametrize(("options", "momentum", "decay"), SGDS)
def test_the_measure_is_the_mean_of_ascents_through_shuffled_images(options, momentum, decay):
    model, some = network(), images(23, seed=2)
    found = keskar(model, some, epsilon=1e-2, lr=0.1, steps=13, batch=5, ascents=3, **options)["keskar_sharpness"]
    loss, theta = loss_of(model, some.images, some.labels)
    low, expected = loss(theta).item(), []
    radius = 1e-2 * (theta.abs() + 1)
    for ascent in range(3):
        random, order, at, velocity = stream(2, "keskar", ascent), [], theta, 0.0
        for _ in range(13):
            order = order or list(torch.from_numpy(random.permutation(23)).split(5))
            places = order.pop(0)
            part, _ = loss_of(model, some.images[places], some.labels[places])
            at = at.detach().requires_grad_()
            (g,) = torch.autograd.grad(part(at), at)
            velocity = momentum * velocity + g - decay * at.detach()
            at = theta + (at.detach() + 0.1 * velocity - theta).clamp(-radius, radius)
        assert ((at - theta).abs() >= 0.999 * radius).any()
        expected.append(100 * (loss(at).item() - low) / (1 + low))
    assert found.each == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) == 3
    assert min(expected) > 0
    assert found.value == pytest.approx(sum(expected) / 3, rel=1e-9)
