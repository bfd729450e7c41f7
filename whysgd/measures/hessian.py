"""The largest eigenvalues and the trace of the Hessian of the mean training loss, from exact products with vectors.

scipy's ARPACK is enough: curvlinops, too, leaves eigenvalues to it, and in place of two calls of autograd for a product
it would bring six packages more.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from whysgd.measures.estimate import Estimate, mean_of
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched
from whysgd.models.double_backward import double_backward
from whysgd.streams import stream

QUANTITIES = {
    "hessian_eigenvalue_1": ("largest Hessian eigenvalue", "nats", "lower"),
    "hessian_eigenvalue_2": ("second Hessian eigenvalue", "nats", "lower"),
    "hessian_trace": ("Hessian trace", "nats", "lower"),
}

EIGENVALUES = 2
# ARPACK returns only what has converged. With this tolerance all has, after the first basis: no product is spent
# on restarts, and the residuals tell how good it is.
ANY = 1e10


def hessian(
    model: torch.nn.Module, images: Images, products: int = 10, probes: int = 8, first: int | None = None
) -> dict[str, Estimate]:
    """The two algebraically largest eigenvalues, and the trace.

        H = ∇² L(θ),  L the mean cross entropy over all images;    tr H = E[zᵀ H z],  z = ±1 with equal chances

    The eigenvalues are the best in a Krylov space (Lanczos), the trace is Hutchinson's estimate. Each product
    H v costs about three passes forward and backward over all images, and those of the probes, which share a pass,
    about two: with the defaults 18 products, less than 60 epochs of training.

    Args:
        products: H v for the eigenvalues, from a start that is drawn from the stream (seed, "lanczos").
        probes: H z for the trace, from the streams (seed, "probe", 0), (…, 1), ….
        first: use only the first so many images.

    Returns:
        `hessian_eigenvalue_1`, `hessian_eigenvalue_2` and `hessian_trace`, in nats. The uncertainty of an eigenvalue λ
        is the residual ‖H x − λ x‖: an eigenvalue is that near. It is found without another product; rounding is not in
        it. That of the trace is s/√n over probes. `samples` are the products. nan if the Hessian is not finite.

    Raises:
        ValueError: too few products, no probes, or a network with too few parameters.

    Source: Lehoucq et al. 1998 (ARPACK); Hutchinson 1990.
    """
    if products < EIGENVALUES + 2 or probes < 1:
        raise ValueError(f"products = {products}, probes = {probes}: at least {EIGENVALUES + 2} and 1 are needed")
    images = images if first is None else images.first(first)
    with untouched(model):
        network = Network(model, images.loss)
        product, size = Hessian(network, images), len(network.theta)
        signs = [stream(images.seed, "probe", i).integers(0, 2, size).astype(np.int8) for i in range(probes)]
        z = 2 * torch.from_numpy(np.stack(signs)).to(network.theta) - 1
        along = product(z)
        trace = mean_of((z * along).sum(1).tolist())
        if not math.isfinite(trace.value):
            pairs = [(math.nan, None)] * EIGENVALUES
        elif not along.any():
            # ARPACK cannot start; a loss of exactly 0 in fp32 does that.
            pairs = [(0.0, 0.0)] * EIGENVALUES
        else:
            pairs = largest_eigenvalues(
                lambda v: product(torch.from_numpy(v).to(z)[None])[0].cpu().numpy(),
                stream(images.seed, "lanczos").standard_normal(size).astype(str(z.dtype).removeprefix("torch.")),
                EIGENVALUES,
                products,
            )
    values = {f"hessian_eigenvalue_{i}": Estimate(*pair, products) for i, pair in enumerate(pairs, 1)}
    return {**values, "hessian_trace": trace}


class Hessian:
    """Products H v with the Hessian of the mean loss over all images, at the network's θ.

    Gradients are differentiated in reverse mode a second time, which takes less time than forward over reverse mode. A
    batch's graph serves all vectors, and if there is only one batch it is kept for further products.
    """

    def __init__(self, network: Network, images: Images):
        self.network, self.images = network, images
        self.theta = network.theta.detach().requires_grad_()
        self.kept = [] if len(images) > images.batch else list(self._gradients())

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """H v (k, P) of k vectors (k, P)."""
        total = torch.zeros_like(vectors)
        for gradient in self.kept or self._gradients():
            for i, vector in enumerate(vectors):
                again = bool(self.kept) or i + 1 < len(vectors)
                total[i] += torch.autograd.grad(gradient, self.theta, vector, retain_graph=again)[0]
        return total

    def _gradients(self) -> Iterator[torch.Tensor]:
        """What each batch adds to the gradient (P,), with its graph."""
        for inputs, labels in self.images.batches():
            with double_backward():
                loss = self.network.loss(self.theta, inputs, labels) * (len(labels) / len(self.images))
            yield torch.autograd.grad(loss, self.theta, create_graph=True)[0]


def largest_eigenvalues(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, count: int, products: int
) -> list[tuple[float, float]]:
    """The algebraically largest eigenvalues of a symmetric matrix H, from the largest down, with residuals.

    In the Krylov space of the vectors q_1, …, q_m that H was multiplied with, H Q = Q T + f e_mᵀ with a tridiagonal T,
    so that the residual of x = Q s is

        ‖H x − λ x‖ = ‖f‖ |s_m|,    f = H q_m − q_m (q_m·H q_m) − q_{m−1} (q_{m−1}·H q_m),    s_m = q_m·x

    Args:
        product: v (P,) to H v (P,).
        start: (P,), of the precision to compute in; it is multiplied with H first.
        count: how many eigenvalues, below P.
        products: how many at most.

    Returns:
        pairs of λ and ‖H x − λ x‖.

    Raises:
        ValueError: not below P.
    """
    if count >= len(start):
        raise ValueError(f"{count} eigenvalues of {len(start)} parameters: must be fewer")
    last: list[np.ndarray] = []

    def remembering(vector: np.ndarray) -> np.ndarray:
        nonlocal last
        # ARPACK's own memory is overwritten.
        vector = vector.reshape(-1).copy()
        last = [*last[-2:-1], vector, product(vector)]
        return last[-1]

    operator = LinearOperator((len(start),) * 2, matvec=remembering, dtype=start.dtype)
    # One product makes the first vector of the basis.
    basis = min(products - 1, len(start))
    values, vectors = eigsh(operator, count, which="LA", v0=start, ncv=basis, maxiter=1, tol=ANY)
    before, q, image = last
    rest = image - (q @ image) * q - (before @ image) * before
    residuals = np.linalg.norm(rest) * np.abs(q @ vectors)
    return [(float(values[i]), float(residuals[i])) for i in np.argsort(values)[::-1]]
