"""The built-in data sets: what is known before they are built. Plain data, readable without numpy."""

# Images for training and testing, channels, height and width, how tables name the set, the sha256 of its canonical
# content where that is known, and for a subset the set whose first training images of each class it takes.
BUILT_IN = {
    "digits": {
        "train": 512, "test": 1285, "channels": 1, "size": 8, "label": "scikit-learn digits",
        "sha256": "10b299e0789dac93da5476f5f39d6a942a59e3818fdd188e3d9bce2bceab90cf",
    },
    "cifar10": {"train": 50_000, "test": 10_000, "channels": 3, "size": 32, "label": "CIFAR-10"},
    "cifar10_5000": {
        "train": 5000, "test": 10_000, "channels": 3, "size": 32, "label": "CIFAR-10, 5,000 images", "of": "cifar10",
    },
    "cifar100": {"train": 50_000, "test": 10_000, "channels": 3, "size": 32, "label": "CIFAR-100"},
    "mnist": {
        "train": 60_000, "test": 10_000, "channels": 1, "size": 28, "label": "MNIST",
        "sha256": "e0130f111822ed58de3ba94ad450971c80ee446d2ff4d08e2b4c8e8be16eae50",
    },
    "fashion_mnist": {"train": 60_000, "test": 10_000, "channels": 1, "size": 28, "label": "Fashion-MNIST"},
}  # fmt: skip
