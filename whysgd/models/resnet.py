"""Residual networks for small images.

Source: He et al. 2016 (arXiv 1512.03385), with a 3×3 convolution as stem and no max-pool. In the form of geiping2022,
wherever the shape changes the shortcut is "C" (average pool, then 1×1 convolution, then norm); in that of novack2023 it
is "B" (1×1 convolution with the stride, then norm); "A" is B without norm. No zero-init of the last norm. The preact
form has norm and activation before each convolution (He et al. 2016, arXiv 1603.05027).
"""

from functools import partial

import torch
from torch import nn

from whysgd.models.layers import Conv2d, Linear, norm_layer, stem

NETWORKS = {
    "resnet18": {"depths": (2, 2, 2, 2)},
    "resnet34": {"depths": (3, 4, 6, 3)},
    "resnet50": {"depths": (3, 4, 6, 3), "bottleneck": True},
    "resnet101": {"depths": (3, 4, 23, 3), "bottleneck": True},
    "resnet152": {"depths": (3, 8, 36, 3), "bottleneck": True},
    # CIFAR's own. geiping2022's released code gives them 64 channels, though its settings say 16: resnet20_w64.
    "resnet20": {"depths": (3, 3, 3), "width": 16, "shortcut": "B"},
    "resnet32": {"depths": (5, 5, 5), "width": 16},
    "resnet56": {"depths": (9, 9, 9), "width": 16},
    "resnet110": {"depths": (18, 18, 18), "width": 16},
    # One block of width 8 and one of width 16, for the mini scale.
    "resnet_mini": {"depths": (1, 1), "width": 8},
    # Three blocks behind a stem of stride 2, for a small scale on a CPU.
    "resnet_small": {"depths": (1, 1, 1), "width": 16, "stride": 2},
}
VARIANTS = {
    "bare": {"shortcut": "A"}, "conv": {"shortcut": "B"}, "pool": {"shortcut": "C"}, "preact": {"preact": True},
    "standard": {"stem_kind": "standard"}, "efficient": {"stem_kind": "efficient"},
    "half": {"width": 32}, "w64": {"width": 64},
}  # fmt: skip
WRITTEN = "resnet<depth>_<variant>"


class Block(nn.Module):
    """Two 3×3 convolutions, or 1×1, 3×3 (with the stride) and 1×1 to four times the channels, and a shortcut.

    Args:
        inputs, width, stride: channels that come in, and of its convolutions; stride.
        shortcut: "A", "B" or "C" where the shape changes.
        bottleneck: three convolutions instead of two.
        preact: norm and activation come before each convolution.
        norm, activation: functions of channels, and of nothing.
    """

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str, bottleneck, preact, norm, activation):
        super().__init__()
        # Kernel size, channels and stride of each convolution.
        shapes = [(1, width, 1), (3, width, stride), (1, 4 * width, 1)] if bottleneck else [
            (3, width, stride), (3, width, 1)
        ]  # fmt: skip
        layers, channels = [], inputs
        for kernel, outputs, step in shapes:
            convolution = Conv2d(channels, outputs, kernel, step, kernel // 2, bias=False)
            layers += [norm(channels), activation(), convolution] if preact else [
                convolution, norm(outputs), activation()
            ]  # fmt: skip
            channels = outputs
        self.changes = stride > 1 or channels != inputs
        self.before = nn.Sequential(*layers[:2]) if preact else nn.Identity()
        self.body = nn.Sequential(*layers[2:]) if preact else nn.Sequential(*layers[:-1])
        # Odd sizes are rounded up, as the convolution of stride 2 does.
        pool = [nn.AvgPool2d(stride, ceil_mode=True)] if shortcut == "C" and stride > 1 else []
        convolution = Conv2d(inputs, channels, 1, 1 if shortcut == "C" else stride, bias=False)
        last = [] if shortcut == "A" else [norm(channels)]
        self.shortcut = nn.Sequential(*pool, convolution, *last) if self.changes else nn.Identity()
        self.after = nn.Identity() if preact else activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.before(x)
        return self.after(self.body(inner) + self.shortcut(inner if self.changes else x))


class ResNet(nn.Module):
    """Stem, stages of doubling width and halving size, mean over pixels, linear.

    Args:
        depths: blocks of each stage.
        width: channels of the first stage.
        shortcut, bottleneck, preact: see `Block`.
        stem_kind, stride: see `whysgd.models.layers.stem`; cifar's is a bare convolution before preact blocks.
        norm, activation: see `whysgd.models.layers.norm_layer`; a class of torch.nn.
    """

    def __init__(
        self, channels: int, classes: int, size: int, depths: tuple[int, ...], width: int = 64, shortcut: str = "C",
        bottleneck: bool = False, preact: bool = False, stem_kind: str = "cifar", stride: int = 1,
        norm: str = "batch", activation: str = "ReLU",
    ):  # fmt: skip
        super().__init__()
        kinds = {"norm": partial(norm_layer, norm), "activation": getattr(nn, activation)}
        layers = stem(stem_kind, channels, width, stride=stride, **kinds)
        self.stem = nn.Sequential(*(layers[:1] if preact and stem_kind == "cifar" else layers))
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            for index in range(depth):
                step = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(inputs, outputs, step, shortcut, bottleneck, preact, **kinds))
                inputs = outputs * (4 if bottleneck else 1)
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(kinds["norm"](inputs), kinds["activation"]()) if preact else nn.Identity()
        self.head = Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) to logits (n, classes)."""
        return self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))


resnet = ResNet
