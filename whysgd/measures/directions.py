"""Random directions in the space of the weights whose length says the same in every network.

With ReLU or batch norm a filter can be scaled without changing the function, so a step of a given length means
nothing by itself. Filter normalization measures it in units of the filters' own norms.
"""

import torch

from whysgd.streams import stream


def filter_normalized(
    model: torch.nn.Module, seed: int, index: int = 0, norm: str = "filter", biases: bool = False
) -> dict[str, torch.Tensor]:
    """A Gaussian direction with the norm of each filter of the network, or what is set.

        d_ij ← d_ij · ‖θ_ij‖ / ‖d_ij‖  for filter j of weight i;  0 for biases and norm layers

    A filter is a slice along the first dimension of a weight with two dimensions or more: what makes one channel of a
    convolution's output, or one output of a linear map.

    Args:
        model: the network.
        seed: of the stream; for one seed and index the Gaussian numbers are the same in all networks of the same shape.
        index: which direction.
        norm: "filter"; "layer": d_i ← d_i · ‖θ_i‖ / ‖d_i‖ for the whole weight i; "none": d as it is drawn.
        biases: d = θ for biases and norm layers.

    Returns:
        a tensor for each parameter, by name, of its shape, precision and device.

    Source: Li et al. 2018, Visualizing the loss landscape of neural nets (arXiv 1712.09913), as in geiping2022.
    """
    random = stream(seed, "direction", index)
    direction = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if weight.dim() < 2:
            direction[name] = weight.clone() if biases else torch.zeros_like(weight)
            continue
        drawn = torch.from_numpy(random.standard_normal(weight.shape)).to(weight)
        dims = tuple(range(norm == "filter", weight.dim()))
        wanted, present = (torch.linalg.vector_norm(t, dim=dims, keepdim=True) for t in (weight, drawn))
        direction[name] = drawn if norm == "none" else drawn * (wanted / present)
    return direction
