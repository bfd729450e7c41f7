import json

import pytest
import torch
from conftest import error_of, folder_of, make_dataset, make_spec, one_line
from networks import random_batches, theta_of
from product_distance import RoundedFactors, product_distances, round_to_tf32
from test_loop import run

from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.study.spec import resolved_precision
from whysgd.training.loop import Options, Trainer
from whysgd.training.objective import Objective

EXACT = make("penalty", "gradient_norm", variant="exact")
VARIANTS = ("forward-differences", "central-differences", "exact")


def cosine(a, b):
    return (a.flatten().double() @ b.flatten().double() / (a.double().norm() * b.double().norm())).item()


@pytest.mark.parametrize(
    "name", ["resnet_mini", "resnet18_conv", "densenet121", "vgg11", "vgg16_bn_small", "fc_d3_w32"]
)
def test_bf16_gradients_are_as_good_as_those_of_torchs_autocast(name):
    model = build_model(name, 3, 10, 0)
    exact, ours = Objective(model), Objective(model, torch.bfloat16)
    theta = theta_of(exact)[None]
    images, labels = random_batches([8], channels=3, pixels=32, classes=10)[0]
    _, truth, _ = exact.gradients(theta.double(), images[None], labels[None])
    losses, gradient, statistics = ours.gradients(theta, images[None].float(), labels[None])
    assert losses.dtype == gradient.dtype == statistics.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        _, peer, _ = exact.gradients(theta, images[None].float(), labels[None])
    # Deep networks with batch norm over few pixels amplify rounding; theirs as much as ours.
    assert 1 - cosine(gradient, truth) < 1.3 * (1 - cosine(peer, truth)) + 0.001
    assert cosine(gradient, truth) > 0.75


@pytest.mark.parametrize("penalty", [None, EXACT], ids=["plain", "exact"])
def test_in_bf16_passes_of_several_micro_batches_are_the_loop_up_to_bf16(penalty):
    dataset = make_dataset(train=20)
    spec = make_spec(penalty=penalty, precision="bf16", drop_last=True, clip=None)
    trainers = [Trainer([spec], dataset, Options(together=k)) for k in (1, 4)]
    for trainer in trainers:
        trainer.step()
        trainer.step()
    first, second = (t.batch.theta - Trainer([spec], dataset).batch.theta for t in trainers)
    assert cosine(first, second) > 0.99


def trained(steps):
    """A network of the mini scale after some full-batch steps, with micro-batches of 16 images to measure on."""
    spec = make_spec(model="resnet_mini", micro_batch=16, drop_last=True, shuffle=False, augment=None, epochs=100)
    trainer = Trainer([spec], make_dataset(train=64, classes=3))
    for _ in range(steps):
        trainer.step()
    loader = Trainer([spec], make_dataset(train=64, classes=3), Options(together=1)).loader
    batches = [(trainer.normalize(x[0, 0]).double(), y[0, 0]) for x, y in loader.groups(0, 0, 4)]
    return trainer.objective.model, trainer.batch.theta[0], batches


@pytest.mark.parametrize("steps", [3, 40], ids=["early", "late"])
def test_each_products_distance_from_the_truth(steps):
    ways = [(variant, precision) for variant in VARIANTS for precision in ("fp64", "fp32", "tf32", "bf16")]
    lines = product_distances(*trained(steps), ways)
    found = {(line["variant"], line["precision"]): line for line in lines}
    for precision, error in (("fp64", 1e-12), ("fp32", 1e-3), ("tf32", 0.1), ("bf16", 0.3)):
        line = found["exact", precision]
        assert line["error"] < error
        assert line["mean_error"] < error
        assert abs(line["norm"] - 1) < error
    for variant in VARIANTS[:2]:
        # The step crosses kinks: in float64, too, a difference is another regularizer than the exact product.
        assert found[variant, "fp64"]["error"] > 0.1
        assert found[variant, "fp64"]["rounding"] == 0
        # In fp32 it is what float64 gives; bf16 adds noise as large as what is computed.
        assert found[variant, "fp32"]["rounding"] < 0.05
        assert found[variant, "bf16"]["rounding"] > 3 * found["exact", "bf16"]["rounding"]
        assert found[variant, "bf16"]["rounding"] > found[variant, "tf32"]["rounding"]


def test_rounding_to_tf32_keeps_ten_bits_to_the_nearest_even():
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, -3.14159, 0.0, 1e-30])
    ours = round_to_tf32(x)
    assert ours[:5].tolist() == [1.0, 1 + 2**-10, 1.0, 1 + 2**-9, 1 + 2**-10]
    assert ((ours - x).abs() <= x.abs() * 2**-11).all()
    a, b = torch.randn(5, 7), torch.randn(7, 3)
    with RoundedFactors():
        product = a @ b
    torch.testing.assert_close(product, round_to_tf32(a) @ round_to_tf32(b))
    assert not torch.equal(product, a @ b)


@pytest.mark.parametrize(
    ("precision", "penalty", "cpu", "gpu"),
    [("auto", None, "fp32", "bf16"), ("auto", make("penalty", "gradient_norm"), "fp32", "tf32"), ("auto", EXACT, "fp32", "bf16"),
     ("fp32", None, "fp32", "fp32"), ("tf32", EXACT, "tf32", "tf32"), ("bf16", EXACT, "bf16", "bf16")],
)  # fmt: skip
def test_what_a_precision_means_on_a_device(precision, penalty, cpu, gpu):
    spec = make_spec(precision=precision, penalty=penalty)
    assert (resolved_precision(spec, "cpu"), resolved_precision(spec, "cuda")) == (cpu, gpu)


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_a_difference_of_bf16_gradients_is_refused_in_one_line(variant, tmp_path, capsys):
    with pytest.raises(ValueError, match="precision = 'bf16': a difference of bf16 gradients is noise"):
        make_spec(penalty=make("penalty", "gradient_norm", variant=variant), precision="bf16")
    spec = {**make_spec(penalty=make("penalty", "gradient_norm", variant=variant)).to_dict(), "precision": "bf16"}
    line = error_of(capsys, "train", "--spec", json.dumps(spec), "--out", tmp_path / "run")
    assert "allowed: fp32, tf32, auto, or the penalty's variant exact" in line


def test_the_configurations_precision_is_that_of_the_rows_and_refused_where_it_cannot_be(tmp_path, capsys):
    (tmp_path / "low.yaml").write_text("precision: bf16\n")
    line = error_of(capsys, "train", "geiping2022/fb-reg", "--configfile", tmp_path / "low.yaml")
    assert "papers/geiping2022.yaml: runs.fb-reg: at scale mini: precision = 'bf16'" in line


def test_tf32_is_refused_on_a_cpu():
    with one_line(r"precision = 'tf32': needs a GPU; allowed on a CPU: auto, fp32, bf16"):
        Trainer([make_spec(precision="tf32")], make_dataset())


def test_a_run_in_bf16_learns_and_says_what_it_was(tmp_path):
    spec = make_spec(precision="bf16", penalty=EXACT, epochs=40, clip=None, lr=0.1)
    data = folder_of(make_dataset(train=60), tmp_path / "data")
    metrics = run(spec, data, tmp_path / "run")
    assert (metrics["precision"], metrics["engine"]) == ("bf16", "eager")
    assert metrics["final"]["train_accuracy"] > 70
