"""Keskar sharpness of a network of torchvision, on random images in place of a training set."""

import torch
import torchvision
from torch.utils.data import DataLoader, TensorDataset

from whysgd import ComputeKeskarSharpness

torch.manual_seed(0)
images = TensorDataset(torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,)))
loader = DataLoader(images, batch_size=16)  # the training images as they are, without augmentation
model = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)  # the ascent takes its kind and its momentum
criterion = torch.nn.CrossEntropyLoss()

for steps in (5, 20):
    measured = ComputeKeskarSharpness(model, optimizer, criterion, loader, epsilon=1e-4, lr=1e-3, max_steps=steps)
    print(f"sharpness after {steps} steps of ascent: {measured.compute_sharpness():.4f} %")
