import numpy as np
import pytest
import torch
from measured import Softmax, images, loss_of, network, softmax

from whysgd.measures.hessian import Hessian, hessian, largest_eigenvalues
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched
from whysgd.models.build import build_model
from whysgd.streams import stream


def dense(model, some) -> torch.Tensor:
    """Reverse mode over reverse mode, row by row."""
    loss, theta = loss_of(model, some.images.to(next(model.parameters()).dtype), some.labels)
    return torch.autograd.functional.hessian(loss, theta)


def two_images() -> tuple[Softmax, Images]:
    """Each of two pixels is on in one of the images."""
    pixels = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64).view(2, 1, 1, 2)
    return Softmax([[0.5, 0.2], [-0.1, 0.4]]), Images(pixels, torch.tensor([0, 1]))


def test_softmax_regression_has_a_known_hessian():
    """H = mean over images of (diag p − p pᵀ) ⊗ x xᵀ; here 2 × 2 blocks p_0 p_1 x² [[1, −1], [−1, 1]]."""
    model, some = two_images()
    found = hessian(model, some, products=6, probes=2)
    curvature = []
    for pixel, size in enumerate((1.0, 3.0)):
        chances = torch.softmax(model.weight.detach()[:, pixel] * size, 0)
        curvature.append((chances[0] * chances[1]).item() * size**2 / 2)
    assert found["hessian_eigenvalue_1"].value == pytest.approx(2 * max(curvature), rel=1e-12)
    assert found["hessian_eigenvalue_2"].value == pytest.approx(2 * min(curvature), rel=1e-12)
    # Each probe gives Σ_j c_j (z_0j − z_1j)², exact up to the two products of signs.
    for i, value in enumerate(found["hessian_trace"].each):
        z = (2 * stream(0, "probe", i).integers(0, 2, 4) - 1).reshape(2, 2)
        assert value == pytest.approx(float(curvature @ (z[0] - z[1]) ** 2), rel=1e-12)


@pytest.mark.parametrize("batch", [1000, 7])
def test_products_are_those_of_the_dense_hessian(batch):
    model, some = network(), images(23, batch=batch)
    truth = dense(model, some)
    vectors = torch.randn(3, len(truth), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with untouched(model):
        product = Hessian(Network(model), some)
        for _ in range(2):
            assert torch.allclose(product(vectors), vectors @ truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [network, softmax])
def test_eigenvalues_and_trace_of_a_small_network(make):
    model, some = make(), images(23, batch=7)
    truth = dense(model, some)
    values = torch.linalg.eigvalsh(truth)
    found = hessian(model, some, products=len(truth) + 1, probes=400)
    for i in (1, 2):
        assert found[f"hessian_eigenvalue_{i}"].value == pytest.approx(values[-i].item(), abs=1e-8)
        assert found[f"hessian_eigenvalue_{i}"].std_error < 1e-6
    trace = found["hessian_trace"]
    assert (trace.samples, len(trace.each)) == (400, 400)
    assert abs(trace.value - truth.trace().item()) < 4 * trace.std_error
    for i in (0, 399):
        z = torch.from_numpy(2.0 * stream(0, "probe", i).integers(0, 2, len(truth)) - 1)
        assert trace.each[i] == pytest.approx((z @ truth @ z).item(), rel=1e-10)


def test_a_diagonal_hessians_trace_is_exact():
    class Own(torch.nn.Module):
        """Image i has logits (θ_i, 0), so that θ_i and θ_j never meet."""

        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))

        def forward(self, inputs):
            mine = inputs.flatten(1) @ self.theta
            return torch.stack([mine, torch.zeros_like(mine)], 1)

    pixels = torch.eye(3, dtype=torch.float64).view(3, 1, 1, 3)
    found = hessian(Own(), Images(pixels, torch.tensor([0, 1, 0])), products=5, probes=4)
    p = torch.sigmoid(Own().theta.detach())
    curvature = (p * (1 - p) / 3).sort().values
    assert found["hessian_trace"].value == pytest.approx(curvature.sum().item(), rel=1e-12)
    assert found["hessian_trace"].std_error == pytest.approx(0, abs=1e-12)
    assert found["hessian_eigenvalue_1"].value == pytest.approx(curvature[-1].item(), rel=1e-12)
    assert found["hessian_eigenvalue_2"].value == pytest.approx(curvature[-2].item(), rel=1e-12)


@pytest.mark.parametrize("products", [4, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residuals_and_the_number_of_products_are_as_stated(products, dtype):
    random = np.random.default_rng(0)
    matrix = random.standard_normal((60, 60))
    matrix = (matrix + matrix.T + np.diag([30, -40, 20, *[0] * 57])).astype(dtype)
    count = 0

    def product(vector):
        nonlocal count
        count += 1
        return matrix @ vector

    start = random.standard_normal(60).astype(dtype)
    found = largest_eigenvalues(product, start, 2, products)
    assert count == products
    truth = np.linalg.eigvalsh(matrix.astype(float))
    # The obvious way: the matrix in an orthonormal basis of the space.
    power, krylov = start.astype(float), []
    for _ in range(products - 1):
        power = matrix.astype(float) @ power
        power = power - sum((q @ power) * q for q in krylov)
        power = power - sum((q @ power) * q for q in krylov)
        power /= np.linalg.norm(power)
        krylov.append(power)
    q = np.stack(krylov, 1)
    ritz, s = np.linalg.eigh(q.T @ matrix @ q)
    for i, (value, residual) in enumerate(found, 1):
        x = q @ s[:, -i]
        assert value == pytest.approx(ritz[-i], rel=1e-4 if dtype == np.float32 else 1e-10)
        true = np.linalg.norm(matrix @ x - ritz[-i] * x)
        assert residual == pytest.approx(true, rel=1e-3 if dtype == np.float32 else 1e-8, abs=1e-4)
        assert np.abs(truth - value).min() <= residual + 1e-4


def test_negative_eigenvalues_do_not_count():
    diagonal = np.array([-50.0, -9.0, 1.0, 2.0, 3.0, 0.5, 0.1])
    found = largest_eigenvalues(lambda v: diagonal * v, np.ones(7), 2, 8)
    assert [value for value, _ in found] == pytest.approx([3.0, 2.0], rel=1e-10)


def test_the_mini_network_is_measured_in_fp32_and_always_the_same():
    model = build_model("resnet_mini", 1, 3, 0, 8)
    some = images(40, pixels=8)
    one, other = (hessian(model, some, products=12, probes=3, first=30) for _ in range(2))
    assert one == other
    double = hessian(model.double(), some, products=12, probes=3, first=30)
    for key, estimate in one.items():
        assert estimate.value == pytest.approx(double[key].value, rel=1e-3)
    assert double["hessian_eigenvalue_1"].std_error < 0.05 * double["hessian_eigenvalue_1"].value


def test_a_flat_loss_has_no_curvature():
    model = Softmax(torch.tensor([[2e3, 0.0], [0.0, 0.0]]))
    some = Images(torch.ones(4, 1, 1, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    assert all(e.value == 0 for e in hessian(model, some, products=4).values())


def test_too_few_parameters_are_refused():
    model = Softmax(torch.tensor([[1.0], [0.0]]))
    some = Images(torch.ones(4, 1, 1, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 eigenvalues of 2 parameters"):
        hessian(model, some)
