"""How micro-batches are averaged."""

from functools import lru_cache

import torch


@lru_cache(maxsize=8)
def micro_batch_weights(count: int, averaging: str, dtype=torch.float32, device="cpu") -> torch.Tensor:
    """Return the weight of each of N micro-batches in ḡ.

    "mean": 1/N, also for one with fewer images. "historical": what avg += (g − avg)/N with constant N gives, weight
    (1/N)(1 − 1/N)^(N−1−i) for micro-batch i, in all 1 − (1 − 1/N)^N ≈ 0.633 (geiping2022's code from its release until
    2023, and so the published numbers).

    Returns:
        weights (N,), in the order of the micro-batches; the same tensor for the same arguments.

    Raises:
        ValueError: another averaging.
    """
    if averaging == "mean":
        return torch.full((count,), 1 / count, dtype=dtype, device=device)
    if averaging != "historical":
        raise ValueError(f"averaging = {averaging!r}: allowed: mean, historical")
    power = torch.arange(count - 1, -1, -1, dtype=dtype, device=device)
    return (1 - 1 / count) ** power / count
