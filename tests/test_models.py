import pytest
import torch
import torchvision
from torch import nn
from torch.func import functional_call
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from whysgd.errors import UserError
from whysgd.models.build import build_model
from whysgd.models.layers import BatchNorm2d, Conv2d, Linear
from whysgd.training.objective import Objective

# Parameters for 3 channels and 10 classes, as counted for these networks with the CIFAR stem.
PARAMETERS = {
    "resnet18": 11_173_962, "resnet34": 21_282_122, "resnet50": 23_520_842, "resnet101": 42_512_970,
    "resnet152": 58_156_618, "resnet18_conv": 11_173_962, "densenet121": 6_956_426, "vgg11": 9_750_922,
    "vgg16_bn": 15_253_578,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    assert sum(p.numel() for p in build_model(name, 3, 10, 0).parameters()) == PARAMETERS[name]


def test_the_mini_network_has_the_size_of_the_study():
    assert sum(p.numel() for p in build_model("resnet_mini", 1, 10, 0).parameters()) == 5122


def resnet_peer(block, depths, shortcut="C"):
    """torchvision's network with the CIFAR stem and, if asked for, shortcut "C" put in."""
    peer = ResNet(block, depths, num_classes=10)
    peer.conv1, peer.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    for layer in (peer.layer1, peer.layer2, peer.layer3, peer.layer4):
        if shortcut == "C" and layer[0].downsample is not None:
            conv, norm = layer[0].downsample
            stride = conv.stride[0]
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            conv = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False)
            layer[0].downsample = nn.Sequential(pool, conv, norm)
    return peer


def densenet_peer():
    peer = torchvision.models.densenet121(num_classes=10)
    peer.features.conv0, peer.features.pool0 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return peer


def vgg_peer(make):
    peer = make(num_classes=10)
    peer.avgpool = nn.Identity()
    peer.classifier = nn.Sequential(
        nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip
    return peer


PEERS = {
    "resnet18": lambda: resnet_peer(BasicBlock, [2, 2, 2, 2]),
    "resnet50": lambda: resnet_peer(Bottleneck, [3, 4, 6, 3]),
    "resnet18_conv": lambda: resnet_peer(BasicBlock, [2, 2, 2, 2], "B"),
    "densenet121": densenet_peer,
    "vgg11": lambda: vgg_peer(torchvision.models.vgg11),
    "vgg16_bn": lambda: vgg_peer(torchvision.models.vgg16_bn),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_those_of_torchvisions_network(name, training):
    model, peer = build_model(name, 3, 10, 0).double(), PEERS[name]().double()
    # Both register their layers in the same order: that of use, shortcuts last in each block.
    ours, theirs = list(model.state_dict().values()), list(peer.state_dict().values())
    assert [t.shape for t in ours] == [t.shape for t in theirs]
    torch.manual_seed(0)
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            if mine.dtype.is_floating_point:
                mine.add_(torch.randn_like(mine).abs() * 0.02)
            other.copy_(mine)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model.train(training)(x), peer.train(training)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet_mini", "resnet18_conv", "densenet121", "vgg11", "vgg16_bn"])
def test_a_stacked_network_is_a_loop_over_blocks(name):
    model = build_model(name, 3, 10, 0).double()
    objective = Objective(model)
    theta = objective.parameters.vector({n: p.detach() for n, p in model.named_parameters()})
    torch.manual_seed(0)
    thetas = torch.stack([theta, 1.01 * theta])
    images = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    labels = torch.randint(0, 10, (2, 2))
    losses, gradients, statistics = objective.gradients(thetas, images, labels)
    for i in range(2):
        loss, gradient, statistic = objective.gradients(thetas[i], images[i][None], labels[i][None])
        torch.testing.assert_close(losses[i], loss[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradients[i], gradient, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(statistics[i], statistic[0], rtol=1e-9, atol=1e-9)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    first = build_model("resnet_mini", 1, 10, 5).state_dict()
    torch.manual_seed(1)
    random_state = torch.get_rng_state()
    second = build_model("resnet_mini", 1, 10, 5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(random_state, torch.get_rng_state())
    assert not torch.equal(first["stem.weight"], build_model("resnet_mini", 1, 10, 6).state_dict()["stem.weight"])


def test_initial_weights_have_the_stated_distribution():
    model = build_model("resnet18", 3, 10, 0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            # No zero-init of the last norm of a block.
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 28), ("resnet50", 28), ("resnet_mini", 25), ("resnet_mini", 7)]
)
def test_images_of_odd_size_pass(name, size):
    assert build_model(name, 1, 10, 0)(torch.randn(2, 1, size, size)).shape == (2, 10)


def test_an_unknown_network_is_named_with_what_is_allowed():
    with pytest.raises(UserError, match="model = 'resnet19': no such network; allowed: resnet18, "):
        build_model("resnet19", 3, 10, 0)


LAYERS = {
    "conv 3x3": (lambda: Conv2d(2, 4, 3, 2, 1), (2, 6, 6)),
    "conv 1x1": (lambda: Conv2d(2, 4, 1), (2, 6, 6)),
    "conv 1x1 without bias": (lambda: Conv2d(2, 4, 1, bias=False), (2, 6, 6)),
    "padded conv 1x1": (lambda: Conv2d(2, 4, 1, padding=1), (2, 6, 6)),
    "grouped conv 1x1": (lambda: Conv2d(4, 4, 1, groups=2), (4, 6, 6)),
    "grouped conv": (lambda: Conv2d(4, 4, 3, groups=2), (4, 6, 6)),
    "batch norm": (lambda: BatchNorm2d(3), (3, 4, 4)),
    "linear": (lambda: Linear(5, 3), (5,)),
    "linear without bias": (lambda: Linear(5, 3, bias=False), (5,)),
}


@pytest.mark.parametrize("images", [3, 17])
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_stacked_layer_is_a_loop_over_blocks(double, make, shape, images):
    k, layer = 4, make()
    weights = {name: torch.randn(k, *p.shape) for name, p in layer.named_parameters()}
    buffers = {name: torch.rand(k, *b.shape) for name, b in layer.named_buffers() if "num" not in name}
    single = {name: buffer.clone() for name, buffer in buffers.items()}
    blocks = torch.randn(k, images, *shape)
    stacked = functional_call(layer, {**weights, **buffers}, (blocks.transpose(0, 1).flatten(1, 2),))
    for i in range(k):
        own = {name: tensor[i] for name, tensor in {**weights, **single}.items()}
        expected = functional_call(layer, own, (blocks[i],))
        torch.testing.assert_close(stacked.unflatten(1, (k, -1))[:, i], expected, rtol=1e-10, atol=1e-10)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, single[name], rtol=1e-12, atol=1e-12)
