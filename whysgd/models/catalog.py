"""The networks by name: family and its arguments. Plain data, readable without torch."""

import re

_RESNET18 = {"block": "basic", "depths": (2, 2, 2, 2)}

CATALOG: dict[str, tuple[str, dict]] = {
    "resnet18": ("resnet", {**_RESNET18, "width": 64}),
    "resnet34": ("resnet", {"block": "basic", "depths": (3, 4, 6, 3), "width": 64}),
    "resnet50": ("resnet", {"block": "bottleneck", "depths": (3, 4, 6, 3), "width": 64}),
    "resnet101": ("resnet", {"block": "bottleneck", "depths": (3, 4, 23, 3), "width": 64}),
    "resnet152": ("resnet", {"block": "bottleneck", "depths": (3, 8, 36, 3), "width": 64}),
    # novack2023's, with strided convolutions as shortcuts.
    "resnet18_conv": ("resnet", {**_RESNET18, "width": 64, "shortcut": "B"}),
    "densenet121": ("densenet", {"depths": (6, 12, 24, 16), "growth": 32}),
    "vgg11": ("vgg", {"layers": 11, "norm": False}),
    "vgg16_bn": ("vgg", {"layers": 16, "norm": True}),
    # Half width, for the midi scale.
    "resnet18_half": ("resnet", {**_RESNET18, "width": 32}),
    "resnet18_conv_half": ("resnet", {**_RESNET18, "width": 32, "shortcut": "B"}),
    "vgg11_half": ("vgg", {"layers": 11, "norm": False, "width": 32}),
    "vgg16_bn_half": ("vgg", {"layers": 16, "norm": True, "width": 32}),
    # One block of width 8 and one of width 16, for the mini scale.
    "resnet_mini": ("resnet", {"block": "basic", "depths": (1, 1), "width": 8}),
    # The seminar deck's "1 conv + 1 linear" and "2 conv with pooling + 2 linear".
    "conv1": ("small_conv", {"convolutions": 1, "width": 16}),
    "conv2": ("small_conv", {"convolutions": 2, "width": 8}),
}

# simsekli2019's families come in any size. No leading zeros, so that a network has one name.
_PARAMETRIZED = {
    "fc": re.compile(r"fc_d(?P<depth>[2-9]|[1-9][0-9]+)_w(?P<width>[1-9][0-9]*)"),
    "alexnet": re.compile(r"alexnet_ch(?P<width>[1-9][0-9]*)"),
}

# What an error offers.
ALLOWED = (*CATALOG, "fc_d<depth>_w<width>", "alexnet_ch<channels>")


def architecture(name: str) -> tuple[str, dict] | None:
    """Family and arguments of the network `name`; None if there is no such network."""
    if name in CATALOG:
        return CATALOG[name]
    for family, pattern in _PARAMETRIZED.items():
        if match := pattern.fullmatch(name):
            return family, {key: int(number) for key, number in match.groupdict().items()}
    return None
