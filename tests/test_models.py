from functools import partial

import pytest
import torch
import torchvision
from conftest import ROOT, make_dataset, make_spec, one_line
from networks import narrow, theta_of
from torch import nn
from torch.func import functional_call
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

from whysgd.models.build import build_model
from whysgd.models.layers import BatchNorm2d, Conv2d, GhostNorm2d, GroupNorm, Linear, dropout_keys
from whysgd.study.config import load_config
from whysgd.study.papers import load_paper, scaled_spec
from whysgd.study.registry import make, network
from whysgd.training.loop import Trainer
from whysgd.training.objective import Objective
from whysgd.training.setup import Setup

# Parameters for 3 channels and 10 classes, as counted for these networks with the CIFAR stem.
PARAMETERS = {
    "resnet18": 11_173_962, "resnet34": 21_282_122, "resnet50": 23_520_842, "resnet101": 42_512_970,
    "resnet152": 58_156_618, "resnet18_conv": 11_173_962, "densenet121": 6_956_298, "vgg11": 9_750_922,
    "vgg16_bn_small": 15_253_578, "resnet_small": 78_042, "resnet_small_conv": 78_042,
    # As torchvision has it, and as geiping2022's released code counts its own.
    "vgg11_bn": 128_812_810, "vgg16_bn": 134_309_962, "densenet161": 26_482_378, "densenet169": 12_493_322, "densenet201": 18_104_330,
    "vgg13_bn_linear": 9_416_010, "vgg19_bn_linear": 20_040_522, "resnet20_w64": 4_327_754,
    "resnet20_bare_w64": 4_326_986, "resnet18_standard": 11_181_642, "densenet121_efficient": 6_983_338,
    # As published: 0.27 to 1.7 millions.
    "resnet20": 272_474, "resnet32": 466_906, "resnet56": 855_770, "resnet110": 1_730_714,
    "linear": 30_730, "fc_d10_w1024": 11_544_576,
    # For the images below; as config.yaml says.
    "fc_d3_w128": 118_016, "resnet_mini": 5122,
}  # fmt: skip
# Channels and size of images that are not CIFAR's.
IMAGES = {"fc_d3_w128": (1, 28), "resnet_mini": (1, 8)}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name, monkeypatch):
    # Drawing 134 million weights takes seconds.
    monkeypatch.setattr("whysgd.models.build.initialize", lambda *arguments: None)
    channels, size = IMAGES.get(name, (3, 32))
    assert sum(p.numel() for p in build_model(name, channels, 10, 0, size).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["resnet_small", "resnet_small_conv"])
def test_the_small_network_halves_its_images_first(name):
    model = build_model(name, 3, 10, 0)
    assert model.stem(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 16, 16)
    assert model.blocks(torch.zeros(1, 16, 16, 16)).shape == (1, 64, 4, 4)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


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
    # The stem is a bare convolution.
    peer.features.conv0 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    peer.features.norm0, peer.features.relu0, peer.features.pool0 = nn.Identity(), nn.Identity(), nn.Identity()
    return peer


def vgg_peer(make):
    peer = make(num_classes=10)
    layers = nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    peer.avgpool, peer.classifier = nn.Identity(), nn.Sequential(*layers)
    return peer


def narrow_vgg_peer():
    """torchvision's VGG-11 with 8 channels where it has 64, and 512 hidden units where it has 4096."""
    layers = make_layers([8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"], batch_norm=True)
    peer = VGG(layers, num_classes=10, dropout=0.0)
    for place, shape in ((0, (64 * 49, 512)), (3, (512, 512)), (6, (512, 10))):
        peer.classifier[place] = nn.Linear(*shape)
    return peer


SHORT = partial(resnet_peer, BasicBlock, [2, 2, 2, 2])
PEERS = {
    "resnet18": SHORT,
    "resnet50": lambda: resnet_peer(Bottleneck, [3, 4, 6, 3]),
    "resnet18_conv": lambda: SHORT("B"),
    "densenet121": densenet_peer,
    "vgg11": lambda: vgg_peer(torchvision.models.vgg11),
    "vgg16_bn_small": lambda: vgg_peer(torchvision.models.vgg16_bn),
    "vgg11_bn": narrow_vgg_peer,
    "resnet18_standard_conv": lambda: ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10),
    "resnet18_conv_gelu": lambda: replaced(SHORT("B"), nn.ReLU, lambda old: nn.GELU()),
    "resnet18_conv_group8": lambda: replaced(SHORT("B"), nn.BatchNorm2d, lambda old: nn.GroupNorm(8, old.num_features)),
    "densenet121_standard": lambda: torchvision.models.densenet121(num_classes=10),
}


def replaced(peer, kind, make):
    """A network with others in place of its layers of a kind."""
    for name, module in list(peer.named_modules()):
        if isinstance(module, kind):
            peer.set_submodule(name, make(module))
    return peer


@pytest.fixture
def undropped(monkeypatch):
    """Dropout that drops nothing; its keys are unused."""
    monkeypatch.setattr("whysgd.models.layers.Dropout.forward", lambda self, x: x)


@pytest.mark.parametrize("name", PEERS)
def test_outputs_are_those_of_the_published_network(name, undropped):
    model = narrow(name) if name == "vgg11_bn" else build_model(name, 3, 10, 0).double()
    # Its own weights are replaced.
    with torch.device("meta"):
        peer = PEERS[name]()
    peer = peer.to_empty(device="cpu").double()
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
    for training in (False, True):
        torch.testing.assert_close(model.train(training)(x), peer.train(training)(x), rtol=1e-10, atol=1e-10)


def fc_peer(inputs, width):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.ReLU(),
        nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, 10, bias=False),
    )  # fmt: skip


def alexnet_peer(channels, ch, features, hidden):
    return nn.Sequential(
        nn.Conv2d(channels, ch, kernel_size=4, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(ch, ch, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(ch, ch, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(ch, ch, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(ch, ch, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 10),
    )  # fmt: skip


def conv1_peer(channels, pixels):
    convolution = nn.Conv2d(channels, 16, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(16 * pixels, 10))


def conv2_peer(channels, pixels):
    return nn.Sequential(
        nn.Conv2d(channels, 8, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=2),
        nn.Conv2d(8, 16, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=2),
        nn.Flatten(), nn.Linear(16 * pixels, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


SIZED_PEERS = {
    ("fc_d4_w16", 1, 28): lambda: fc_peer(784, 16),
    ("fc_d4_w7", 3, 8): lambda: fc_peer(192, 7),
    # A head of 64 features and 64 · (1 + log2 64) = 448 hidden units.
    ("alexnet_ch64", 3, 32): lambda: alexnet_peer(3, 64, 64, 448),
    ("alexnet_ch6", 1, 28): lambda: alexnet_peer(1, 6, 6, 18),
    # 3 · 3 pixels are left of 64 · 64: 45 features, 45 · ⌊1 + log2 45⌋ = 270 hidden units.
    ("alexnet_ch5", 3, 64): lambda: alexnet_peer(3, 5, 45, 270),
    **{("conv1", c, n): partial(conv1_peer, c, ((n + 1) // 2) ** 2) for c in (1, 3) for n in (8, 25, 28, 32)},
    **{("conv2", c, n): partial(conv2_peer, c, (n // 4) ** 2) for c in (1, 3) for n in (8, 28, 32)},
}


@pytest.mark.parametrize(("name", "channels", "size"), SIZED_PEERS)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_those_of_the_same_layers_of_torch(double, undropped, name, channels, size, training):
    model, peer = build_model(name, channels, 10, 0, size).double(), SIZED_PEERS[name, channels, size]()
    torch.manual_seed(0)
    for mine, other in zip(model.parameters(), peer.parameters(), strict=True):
        assert mine.shape == other.shape
        other.data.copy_(mine)
    x = torch.randn(4, channels, size, size)
    torch.testing.assert_close(model.train(training)(x), peer(x), rtol=1e-12, atol=1e-12)


STACKED = [
    "linear", "resnet_mini_preact", "resnet_mini_bare", "resnet_mini_group4th", "resnet_mini_nonorm_tanh",
    "resnet_mini_efficient", "vgg11_bn",
    "resnet_mini", "resnet_small", "resnet18_conv", "densenet121", "vgg11", "vgg16_bn_small", "fc_d2_w7", "fc_d4_w16", "alexnet_ch4",
    "conv1", "conv2",
]  # fmt: skip


@pytest.mark.parametrize("name", STACKED)
def test_a_stacked_network_is_a_loop_over_blocks(name):
    objective = Objective(narrow(name))
    theta = theta_of(objective)
    torch.manual_seed(0)
    thetas = torch.stack([theta, 1.01 * theta])
    images = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    labels = torch.randint(0, 10, (2, 2))
    keys = torch.tensor([1, 2])
    with dropout_keys(keys):
        losses, gradients, statistics = objective.gradients(thetas, images, labels)
    for i in range(2):
        own = slice(i, i + 1)
        with dropout_keys(keys[own]):
            loss, gradient, statistic = objective.gradients(thetas[own], images[own], labels[own])
        torch.testing.assert_close(losses[i], loss[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradients[i], gradient[0], rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(statistics[i], statistic[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet_mini", "fc_d3_w16", "alexnet_ch4", "conv2"])
def test_initial_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(0)
    first = build_model(name, 1, 10, 5).state_dict()
    torch.manual_seed(1)
    random_state = torch.get_rng_state()
    second = build_model(name, 1, 10, 5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(random_state, torch.get_rng_state())
    other, key = build_model(name, 1, 10, 6).state_dict(), next(iter(first))
    assert not torch.equal(first[key], other[key])


def he(mode):
    return lambda weight: nn.init.kaiming_normal_(weight, mode=mode, nonlinearity="relu")


def uniform(weight):
    return nn.init.kaiming_uniform_(weight, a=5**0.5)


# What torch's functions draw: weights of convolutions, of linear maps; and whose biases are not zero.
INITS = {
    "torch": (uniform, uniform, (nn.Conv2d, nn.Linear)),
    "he_fan_out": (he("fan_out"), uniform, (nn.Linear,)),
    "he_fan_in": (he("fan_in"), uniform, ()),
    "vgg": (he("fan_out"), lambda weight: nn.init.normal_(weight, 0, 0.01), ()),
}


@pytest.mark.parametrize("init", INITS)
def test_initial_weights_have_the_distribution_of_torchs_functions(init):
    convolution, linear, drawn = INITS[init]
    for module in build_model("alexnet_ch64", 3, 10, 0, init=init).modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        ours = module.weight.detach()
        torch.manual_seed(0)
        theirs = (convolution if isinstance(module, nn.Conv2d) else linear)(torch.empty_like(ours))
        # The fourth moment tells uniform from normal; means within five standard errors.
        for power in (2, 4):
            assert (ours**power).mean().item() == pytest.approx((theirs**power).mean().item(), rel=0.2)
        assert abs(ours.mean()) < 5 * theirs.std() / ours.numel() ** 0.5
        bound = ours[0].numel() ** -0.5 * (1 + 1e-6) if isinstance(module, drawn) else 0
        # A bias has as few as ten numbers.
        assert 0.7 * bound <= module.bias.abs().max() <= bound


@pytest.mark.parametrize(
    ("name", "init"),
    [("resnet_mini", "he_fan_out"), ("densenet121", "he_fan_in"), ("alexnet_ch8", "torch"), ("fc_d2_w8", "torch"),
     ("conv1", "torch"), ("vgg11_half", "he_fan_out"), ("vgg11_bn_half", "vgg"), ("vgg16_bn_linear_half", "vgg"),
     ("resnet_mini_group8", "he_fan_out")],
)  # fmt: skip
def test_each_network_has_initial_weights_of_its_own(name, init):
    own, given = build_model(name, 3, 10, 0).parameters(), build_model(name, 3, 10, 0, init=init).parameters()
    assert all(torch.equal(a, b) for a, b in zip(own, given, strict=True))


def test_norm_layers_begin_as_the_identity():
    norms = [module for module in build_model("resnet18", 3, 10, 0).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    for norm in norms:
        # No zero-init of the last norm of a block.
        for tensor, value in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
            assert (tensor == value).all()


def test_a_run_says_how_its_weights_are_drawn():
    config = load_config([ROOT / "config/paper.yaml"])
    for paper, run, init in (
        ("geiping2022", "sgd", "he_fan_out"), ("geiping2022", "sgd.densenet121", None),
        ("novack2023", "resnet18-cifar10.sb-sgd", "torch"), ("novack2023", "vgg11-cifar10.lb-gn", "he_fan_out"),
        ("novack2023", "vgg16-cifar10.ngd", None), ("simsekli2019", "mnist-cross_entropy-d2-w4", "torch"),
    ):  # fmt: skip
        assert scaled_spec(config, paper, run, 0).init == init
    spec = make_spec(init="torch")
    theta = Setup([spec], make_dataset()).states[0].theta
    model = build_model("resnet_mini", 1, 3, spec.seed, 8, "torch")
    assert torch.equal(theta, torch.cat([p.flatten() for p in model.parameters()]))


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 28), ("resnet50", 28), ("resnet_mini", 25), ("resnet_mini", 7)]
)
def test_images_of_odd_size_pass(name, size):
    assert build_model(name, 1, 10, 0)(torch.randn(2, 1, size, size)).shape == (2, 10)


def test_an_unknown_network_is_named_with_what_is_allowed():
    with one_line(r"model = 'resnet19': no such network; allowed: .*resnet18, .*did you mean resnet1"):
        build_model("resnet19", 3, 10, 0)


MISNAMED = [
    "fc_d1_w8", "fc_d3", "fc_d3_w0", "fc_d03_w8", "fc_w8_d3", "xfc_d3_w8", "fc_d3_w8x", "alexnet_ch0", "alexnet",
]  # fmt: skip


@pytest.mark.parametrize("name", MISNAMED)
def test_a_size_that_cannot_be_is_refused_wherever_a_network_is_named(name, monkeypatch):
    allowed = r".*resnet18, .*, alexnet_ch<channels>, .*fc_d<depth>_w<width>, .*, or a dotted path"
    with one_line(f"^model = '{name}': no such network; allowed: {allowed}"):
        build_model(name, 3, 10, 0)
    with one_line(rf"scales.mini.models.\* = '{name}': allowed: same, {allowed}"):
        load_config(settings={"scales": {"mini": {"description": "mine", "seeds": [0], "models": {"*": name}}}})
    monkeypatch.setitem(load_paper("geiping2022")["runs"]["sgd"], "model", name)
    with one_line(f"runs.sgd.model = '{name}': no such network; allowed: {allowed}"):
        scaled_spec(load_config([ROOT / "config/paper.yaml"]), "geiping2022", "sgd", 0)


@pytest.mark.parametrize("name", ["fc_d2_w1", "fc_d10_w1024", "alexnet_ch64"])
def test_a_network_of_any_size_may_be_named_in_papers_and_scales(name, monkeypatch):
    scales = {"mini": {"description": "mine", "seeds": [0], "models": {"*": name}}}
    assert scaled_spec(load_config(settings={"scales": scales}), "geiping2022", "sgd", 0).model == name
    monkeypatch.setitem(load_paper("geiping2022")["runs"]["sgd"], "model", name)
    assert scaled_spec(load_config([ROOT / "config/paper.yaml"]), "geiping2022", "sgd", 0).model == name


def test_a_name_says_the_size_and_the_variant():
    assert network("fc_d3_w128") == ("fully_connected", {"depth": 3, "width": 128})
    assert network("alexnet_ch64") == ("alexnet", {"width": 64})
    assert network("resnet18_conv_half") == ("resnet", {"depths": (2, 2, 2, 2), "shortcut": "B", "width": 32})
    assert network("resnet_mini_group8_gelu")[1]["norm"] == "group8"
    # Nothing of another family, nothing twice, nothing alone.
    for name in ("densenet121_conv", "fc_d2_w8_gelu", "resnet18_half_half", "vgg16_bn_torchvision", "_gelu", "gelu"):
        assert network(name) is None


def test_ghost_norm_is_batch_norm_of_parts():
    ghost, x = build_model("resnet_mini_ghost", 1, 3, 0).double().stem[1], torch.randn(130, 8, 4, 4).double()
    parts = x.split(65)
    norms = [nn.BatchNorm2d(8).double() for _ in parts]
    expected = torch.cat([norm(part) for norm, part in zip(norms, parts, strict=True)])
    torch.testing.assert_close(ghost(x), expected)
    torch.testing.assert_close(ghost.running_var, (norms[0].running_var + norms[1].running_var) / 2)
    torch.testing.assert_close(ghost.running_mean, (norms[0].running_mean + norms[1].running_mean) / 2)


def test_a_full_batch_run_with_other_norms_trains():
    for model in ("resnet_mini_group4th", "resnet_mini_ghost", "resnet_mini_nonorm_gelu"):
        spec = make_spec(model=model, penalty=make("penalty", "gradient_norm", variant="exact"))
        trainer = Trainer([spec], make_dataset(70))
        for _ in range(3):
            trainer.after_step(trainer.step())
        assert trainer.states[0].theta.isfinite().all()


def test_alexnet_is_for_images_of_28_pixels_and_more():
    for size in range(1, 28):
        with one_line(rf"^model = 'alexnet_ch4': is not for images of {size}×{size} \("):
            build_model("alexnet_ch4", 1, 10, 0, size)
    for size in range(28, 40):
        assert build_model("alexnet_ch4", 1, 10, 0, size).eval()(torch.zeros(2, 1, size, size)).shape == (2, 10)


LAYERS = {
    "conv 3x3": (lambda: Conv2d(2, 4, 3, 2, 1), (2, 6, 6)),
    "conv 1x1": (lambda: Conv2d(2, 4, 1), (2, 6, 6)),
    "conv 1x1 without bias": (lambda: Conv2d(2, 4, 1, bias=False), (2, 6, 6)),
    "padded conv 1x1": (lambda: Conv2d(2, 4, 1, padding=1), (2, 6, 6)),
    "grouped conv 1x1": (lambda: Conv2d(4, 4, 1, groups=2), (4, 6, 6)),
    "grouped conv": (lambda: Conv2d(4, 4, 3, groups=2), (4, 6, 6)),
    "batch norm": (lambda: BatchNorm2d(3), (3, 4, 4)),
    "ghost norm": (lambda: GhostNorm2d(3), (3, 4, 4)),
    "group norm": (lambda: GroupNorm(2, 4), (4, 4, 4)),
    "linear": (lambda: Linear(5, 3), (5,)),
    "linear without bias": (lambda: Linear(5, 3, bias=False), (5,)),
}


@pytest.mark.parametrize("images", [3, 17, 130])
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
