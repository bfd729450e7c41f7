"""Tail index of the noise of mini-batch gradients, as simsekli2019 estimates it, on scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits

from whysgd import alpha_estimator
from whysgd.measures.alpha import alpha_interval

torch.manual_seed(0)
digits = load_digits()
inputs = torch.tensor(digits.data, dtype=torch.float32)[:1700] / 16
labels = torch.tensor(digits.target)[:1700]
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
loss_fn = torch.nn.CrossEntropyLoss()


def gradient(x, y):
    """Return the gradient of all parameters as one vector."""
    grads = torch.autograd.grad(loss_fn(model(x), y), list(model.parameters()))
    return torch.cat([g.flatten() for g in grads])


full = gradient(inputs, labels)
noise = torch.stack([gradient(x, y) - full for x, y in zip(inputs.split(17), labels.split(17), strict=True)])
noise = noise[:, (noise != 0).all(0)].flatten()  # exact zeros, of pixels that are always black, would pull α down
noise = noise[: len(noise) // 400 * 400]
print(f"tail index of {len(noise):,} entries, in sums of 400: {alpha_estimator(400, noise):.2f} (2 is Gaussian)")
found = alpha_interval(noise, 400)
print(f"with a 95 % interval over blocks: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
