"""A network in evaluation mode as a function of its parameter vector θ."""

from math import isfinite, nan

import torch
from torch.func import functional_call, vmap

from whysgd.measures.images import Images
from whysgd.training.losses import image_losses
from whysgd.training.objective import ParameterVector

# How many numbers the gradients of micro-batches computed at once may take. For small networks the overhead of each
# operation counts; large ones are not faster together.
NUMBERS_AT_ONCE = 2**22


class Network:
    """Logits, losses and gradients at any θ, with the network's own buffers; to be used within `untouched`.

    Batch norm uses its running statistics, so that an image's loss does not depend on the others of its batch. `loss`
    is what the network was trained with, see `whysgd.training.losses`.

    Attributes:
        theta: the network's parameters (P,), a copy.
        layout: how they lie in it.
    """

    def __init__(self, model: torch.nn.Module, loss: str = "cross_entropy"):
        named = dict(model.named_parameters())
        self.model, self.layout, self.loss_name = model, ParameterVector(named.items()), loss
        self.theta = self.layout.vector(named).detach()

    def logits(self, theta: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """(n, classes) of inputs (n, …), in the precision of θ (P,)."""
        return functional_call(self.model, self.layout.inputs(theta), (inputs.to(theta.dtype),))

    def loss(self, theta: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss, a scalar, of inputs (n, …) with labels (n,)."""
        return image_losses(self.logits(theta, inputs), labels, self.loss_name).mean()

    def gradient(self, theta: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Gradient (P,) of the `loss`."""
        theta = theta.detach().requires_grad_()
        return torch.autograd.grad(self.loss(theta, inputs, labels), theta)[0]

    def gradients(self, theta: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Gradients (k, P) of the mean losses of k micro-batches, of inputs (k, n, …) and labels (k, n)."""
        if len(labels) == 1:
            return self.gradient(theta, inputs[0], labels[0])[None]
        thetas = theta.detach().expand(len(labels), -1).requires_grad_()
        # torch.func.grad would load torch's compiler first: 0.9 seconds of every job.
        return torch.autograd.grad(vmap(self.loss)(thetas, inputs, labels).sum(), thetas)[0]

    def micro_batches_at_once(self, micro_batch: int, images: Images) -> int:
        """How many micro-batches to compute at once: their gradients, and the images, must fit."""
        return max(1, min(NUMBERS_AT_ONCE // len(self.theta), images.batch // micro_batch))

    @torch.inference_mode()
    def evaluate(self, theta: torch.Tensor, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss (n,) of each image, and whether it is classified correctly (n,), both in float64."""
        losses, correct = [], []
        for inputs, labels in images.batches():
            logits = self.logits(theta, inputs)
            losses.append(image_losses(logits, labels, self.loss_name))
            correct.append(logits.argmax(1) == labels)
        return torch.cat(losses).double(), torch.cat(correct).double()

    def mean_loss(self, theta: torch.Tensor, images: Images) -> float:
        """Mean loss over all images; nan if it is not finite."""
        return finite(self.evaluate(theta, images)[0].mean())


def finite(number) -> float:
    """A number as a float; nan if it is not finite."""
    number = float(number)
    return number if isfinite(number) else nan
