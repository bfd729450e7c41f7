"""Full-batch training with geiping2022's gradient regularizer, in a loop of your own, on scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits

from whysgd import GradRegularizer

torch.manual_seed(0)
digits = load_digits()
inputs = torch.tensor(digits.data, dtype=torch.float32)[:1792] / 16
labels = torch.tensor(digits.target)[:1792]
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9)
loss_fn = torch.nn.CrossEntropyLoss()
gradreg = GradRegularizer(model, optimizer, loss_fn, block_strength=0.5)
parameters = list(model.parameters())

for _ in range(50):
    total = [torch.zeros_like(p) for p in parameters]
    micro_batches = list(zip(inputs.split(128), labels.split(128), strict=True))
    for x, y in micro_batches:
        grads = torch.autograd.grad(loss_fn(model(x), y), parameters)
        grads = gradreg(grads, x, y)  # g_B + (lr/4) 0.5 H_B g_B
        torch._foreach_add_(total, grads, alpha=1 / len(micro_batches))
    for p, g in zip(parameters, total, strict=True):
        p.grad = g
    torch.nn.utils.clip_grad_norm_(parameters, 0.25)
    optimizer.step()  # one step of all images

accuracy = (model(inputs).argmax(1) == labels).float().mean()
print(f"training accuracy after 50 full-batch steps: {100 * accuracy:.1f} %")
