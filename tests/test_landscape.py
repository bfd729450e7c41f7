import copy
import itertools
import math

import pytest
import torch
from measured import gradient_of, images, loss_of, network, softmax

from whysgd.measures.directions import filter_normalized
from whysgd.measures.landscape import FullLoss, chunk, grid, landscape

TERMS = FullLoss((5e-4, ()), block_strength=0.5, lr=0.8, final_lr=0.3)


def shifted(model, directions, point):
    """A copy of the network at the point."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in other.named_parameters():
            for t, direction in zip(point, directions, strict=True):
                p.add_(t * direction[name])
    return other.eval()


@pytest.mark.parametrize(("n", "batch"), [(23, 1000), (23, 5), (20, 1)])
@pytest.mark.parametrize("kind", ["line", "plane"])
def test_points_are_those_of_a_network_moved_there(kind, n, batch):
    model, some = network(), images(n, batch=batch)
    directions = [filter_normalized(model, 0, i) for i in range(1 if kind == "line" else 2)]
    points = grid(kind, 3, (-0.7, 0.7), (-0.2, 0.5))
    found = landscape(model, some, points, directions, TERMS, 5)
    assert len(found) == len(points)
    for line, point in zip(found, points, strict=True):
        assert (line["alpha"], line["beta"]) == (point if kind == "plane" else (*point, 0.0))
        moved = shifted(model, directions, point)
        loss, theta = loss_of(moved, some.images, some.labels)
        right = (moved(some.images).argmax(1) == some.labels).double().mean().item()
        # The last three of 23 images fill no block.
        blocks = [(some.images[i : i + 5], some.labels[i : i + 5]) for i in range(0, 20, 5)]
        norms = [gradient_of(moved, *block).square().sum().item() for block in blocks]
        penalty = 0.8 / 4 * 0.5 * sum(norms) / len(norms)
        assert line["loss"] == pytest.approx(loss(theta).item(), rel=1e-10)
        assert line["accuracy"] == pytest.approx(100 * right, rel=1e-12)
        assert line["penalty"] == pytest.approx(penalty, rel=1e-9)
        full = loss(theta).item() + 5e-4 / 2 * theta.square().sum().item() + penalty
        assert line["full_loss"] == pytest.approx(full, rel=1e-10)
        assert line["final_full_loss"] == pytest.approx(full - penalty + penalty * 0.3 / 0.8, rel=1e-10)


def test_in_training_mode_each_micro_batch_has_its_own_statistics():
    model, some = network(), images(23)
    directions, point = [filter_normalized(model, 0)], (0.4,)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    (line,) = landscape(model, some, [point], directions, TERMS, 5, training=True)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    moved = shifted(model, directions, point).train()
    losses, norms, right = [], [], []
    for i in range(0, 20, 5):
        logits = moved(some.images[i : i + 5])
        losses.append(torch.nn.functional.cross_entropy(logits, some.labels[i : i + 5]))
        gradients = torch.autograd.grad(losses[-1], list(moved.parameters()))
        norms.append(sum(g.square().sum().item() for g in gradients))
        right += (logits.argmax(1) == some.labels[i : i + 5]).tolist()
    assert line["loss"] == pytest.approx(sum(losses).item() / 4, rel=1e-10)
    assert line["penalty"] == pytest.approx(0.8 / 4 * 0.5 * sum(norms) / 4, rel=1e-9)
    assert line["accuracy"] == pytest.approx(100 * sum(right) / 20)
    (still,) = landscape(model, some, [point], directions, TERMS, 5)
    assert still["loss"] != pytest.approx(line["loss"], rel=1e-3)


def test_softmax_regression_along_a_line():
    """Where the direction is the weight itself, the logits are (1 + α) W x."""
    model, some = softmax(), images(11)
    found = landscape(model, some, [(-1.0,), (1.0,)], [{"weight": model.weight.detach()}], FullLoss((2.0, ())))
    double = torch.nn.functional.cross_entropy(2 * model(some.images), some.labels).item()
    assert found[0]["loss"] == pytest.approx(math.log(3), rel=1e-12)
    assert found[0]["full_loss"] == pytest.approx(math.log(3), rel=1e-12)
    assert found[1]["loss"] == pytest.approx(double, rel=1e-12)
    assert found[1]["full_loss"] == pytest.approx(double + 4 * model.weight.square().sum().item(), rel=1e-12)
    assert [line["penalty"] for line in found] == [0.0, 0.0]


def test_a_loss_that_is_not_finite_is_nan():
    model = softmax()
    found = landscape(model, images(11), [(math.inf,)], [{"weight": torch.ones_like(model.weight)}], TERMS, 4)
    assert all(math.isnan(found[0][name]) for name in ("loss", "penalty", "full_loss"))


@pytest.mark.parametrize("points", [2, 11, 50, 51])
def test_grids_are_symmetric_and_have_their_ends(points):
    line = [a for (a,) in grid("line", points)]
    assert line == [-a for a in reversed(line)]
    assert (line[0], line[-1], len(line), 0.0 in line) == (-1.0, 1.0, points, points % 2 == 1)
    assert all(b - a == pytest.approx(2 / (points - 1)) for a, b in itertools.pairwise(line))
    assert grid("plane", points) == [(a, b) for a in line for b in line]
    uneven = [a for (a,) in grid("line", points, (-0.5, 2.0))]
    assert uneven == pytest.approx([-0.5 + 2.5 * i / (points - 1) for i in range(points)])
    assert {b for _, b in grid("plane", points, beta=(0.0, 3.0))} == {b for (b,) in grid("line", points, (0.0, 3.0))}


def test_chunks_are_contiguous_and_of_like_size():
    points = grid("plane", 7)
    for of in (1, 4, 49, 60):
        parts = [chunk(points, i, of) for i in range(of)]
        assert [point for part in parts for point in part] == points
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_does_not_fit_is_refused():
    model, some = network(), images(4)
    way = filter_normalized(model, 0)
    with pytest.raises(ValueError, match="one or two coordinates"):
        landscape(model, some, [(0.0, 0.0)], [way])
    with pytest.raises(ValueError, match="do not fill a micro-batch"):
        landscape(model, some, [(0.0,)], [way], TERMS)
    with pytest.raises(ValueError, match="allowed: line, plane"):
        grid("cube", 3)
    with pytest.raises(ValueError, match="allowed: 0 to 3"):
        chunk([(0.0,)], 4, 4)
