"""iyer2023's Knee schedule: explore at the peak learning rate, then descend linearly to 0, on scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from whysgd import KneeLRScheduler

torch.manual_seed(0)
digits = load_digits()
images = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
loader = DataLoader(images, batch_size=64, shuffle=True)
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loss_fn = torch.nn.CrossEntropyLoss()
epochs = 10
steps = epochs * len(loader)
scheduler = KneeLRScheduler(optimizer, peak_lr=0.1, warmup_steps=0, explore_steps=steps // 2, total_steps=steps)

for epoch in range(epochs):
    for inputs, labels in loader:
        loss = loss_fn(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()  # after each step, not after each epoch
    print(f"epoch {epoch + 1:2}: last loss {loss.item():.3f}, next learning rate {scheduler.get_last_lr()[0]:.3f}")
