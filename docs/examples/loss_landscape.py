"""Loss around a trained network along a filter-normalized direction (Li et al. 2018), on scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits

from whysgd.measures.directions import filter_normalized
from whysgd.measures.images import Images
from whysgd.measures.landscape import grid, landscape

torch.manual_seed(0)
digits = load_digits()
inputs = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 6 * 6, 10)
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(100):
    chosen = torch.randint(len(labels), (64,))
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
    optimizer.step()

direction = filter_normalized(model, seed=0)  # as long, filter by filter, as the weights
points = grid("line", 11)  # α from -1 to 1; "plane" takes two directions
for line in landscape(model, Images(inputs, labels), points, [direction]):
    bar = "#" * round(10 * line["loss"])
    print(f"α = {line['alpha']:+.1f}  loss {line['loss']:6.3f}  accuracy {line['accuracy']:5.1f} %  {bar}")
