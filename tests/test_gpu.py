"""What only a GPU can show: the fast paths there against the plain loop, in the precisions they stand for."""

import pytest
import torch
from conftest import make_dataset, make_spec
from test_loop import dying_after, folder_of, results
from whysgd.training.stack import Stack
from whysgd.training.trainer import Trainer

from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES
from whysgd.measures.run import load_run, measure_run
from whysgd.study.registry import make
from whysgd.study.spec import NoiseWatch
from whysgd.training.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DIFFERENCES, EXACT = make("penalty", "gradient_norm"), make("penalty", "gradient_norm", variant="exact")
PENALTIES = {
    "none": None, "differences": DIFFERENCES, "exact": EXACT, "GN": make("penalty", "micro_batch_gradient_norm", strength=0.05),
    "AJ": make("penalty", "average_jacobian", strength=0.001), "UJ": make("penalty", "unit_jacobian", strength=0.01),
    "sampled GN": make("penalty", "micro_batch_gradient_norm", strength=0.05, sample=16),
}  # fmt: skip
# Largest relative difference of one step's movement from the plain fp32 loop on the CPU.
TOLERANCE = {
    ("fp32", "none"): 1e-3, ("fp32", "differences"): 5e-2, ("fp32", "exact"): 1e-2, ("fp32", "GN"): 1e-2,
    ("fp32", "AJ"): 1e-2, ("fp32", "UJ"): 1e-2, ("fp32", "sampled GN"): 1e-2, ("bf16", "GN"): 0.3,
    ("tf32", "none"): 5e-2, ("tf32", "differences"): 0.6, ("tf32", "exact"): 0.1,
    ("bf16", "none"): 0.2, ("bf16", "exact"): 0.3,
}  # fmt: skip


def small(model="resnet18_half", channels=3, **changes):
    spec = make_spec(model=model, block=8, drop_last=True, clip=None, epochs=50, **changes)
    return spec, make_dataset(train=40, channels=channels, size=16)


def movement(trainer, theta, momentum, running):
    """What one step adds to θ from a given state."""
    trainer.state.step = 3
    trainer.state.theta.copy_(theta)
    trainer.state.momentum.copy_(momentum)
    trainer.state.running = running.to(trainer.device)
    trainer.step()
    return trainer.state.theta.cpu() - theta


@pytest.mark.parametrize(("precision", "penalty"), TOLERANCE)
@pytest.mark.parametrize("engine", ["eager", "graph", "compiled"])
@pytest.mark.parametrize("model", ["resnet18_half", "resnet_mini"])
def test_each_step_is_the_plain_loops(precision, penalty, engine, model):
    spec, dataset = small(model, penalty=PENALTIES[penalty])
    plain = Trainer(spec, dataset, "cpu", blocks_at_once=1)
    fast = Trainer(spec.replace(precision=precision), dataset, "cuda", engine=engine)
    for _ in range(4):
        state = [tensor.clone() for tensor in (plain.state.theta, plain.state.momentum, plain.state.running)]
        expected = movement(plain, *state)
        found = movement(fast, *state)
        difference = (found - expected).norm() / expected.norm()
        assert difference < TOLERANCE[precision, penalty], difference
    assert fast.engine_used == engine


def test_fisher_labels_and_iterative_grafts_are_those_of_the_cpu():
    # Labels that are drawn may change with a rounding error, so FT is compared where most of them agree: in fp32.
    changes = [
        {"penalty": make("penalty", "fisher_trace", strength=0.05)},
        {"penalty": None, "transform": make("transform", "iter_graft")},
    ]
    for change in changes:
        spec, dataset = small(macro_batch=16, **change)
        plain = Trainer(spec, dataset, "cpu", blocks_at_once=1)
        fast = Trainer(spec.replace(precision="fp32"), dataset, "cuda")
        state = [tensor.clone() for tensor in (plain.state.theta, plain.state.momentum, plain.state.running)]
        expected, found = movement(plain, *state), movement(fast, *state)
        assert (found - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("images_on", ["device", "host"])
@pytest.mark.parametrize("macro_batch", ["all", 8])
def test_images_on_the_device_and_streamed_ones_are_those_of_the_cpu(images_on, macro_batch):
    spec, dataset = small(macro_batch=macro_batch)
    cpu = Trainer(spec, dataset, "cpu").feed
    gpu = Trainer(spec, dataset, "cuda", images_on=images_on).feed
    assert gpu.resident == (images_on == "device")
    for epoch in range(5):
        flat = [
            torch.cat([images.flatten(0, 1).cpu() for images, _ in feed.stacks(epoch, 0, 5)]) for feed in (cpu, gpu)
        ]
        assert torch.equal(*flat)


def test_a_step_does_not_wait_for_the_gpu():
    spec, dataset = small(macro_batch=8, penalty=None)
    trainer = Trainer(spec, dataset, "cuda", engine="graph")
    for _ in range(5):
        trainer.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        # Within an epoch: at its end the next one's images are waited for.
        trainer.step()
        trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_on_a_gpu_continues_from_its_checkpoint(tmp_path, monkeypatch):
    spec, dataset = small(penalty=None)
    data = folder_of(dataset, tmp_path / "data")
    metrics = train(spec, data, tmp_path / "whole", "cuda")
    assert metrics["precision"] == "bf16"
    assert metrics["engine"] == "compiled"
    with dying_after(monkeypatch, 20):
        train(spec, data, tmp_path / "cut", "cuda", checkpoint_seconds=1e-9)
    assert train(spec, data, tmp_path / "cut", "cuda")["sessions"] == 2
    assert results(tmp_path / "whole")[0]["steps"] == results(tmp_path / "cut")[0]["steps"]


def test_measures_on_a_gpu_are_those_on_a_cpu(tmp_path):
    spec, dataset = small(penalty=None)
    data = folder_of(dataset, tmp_path / "data")
    train(spec, data, tmp_path / "run")
    options = {
        "keskar": {"steps": 5, "batch": 8, "lr": 0.01},
        "gradient_noise": {"micro_batch": 8},
        "tail_index": {"micro_batch": 8},
        "hessian": {"probes": 3},
    }
    found = {}
    for device in ("cpu", "cuda"):
        measure_run(list(MEASURES), load_run(tmp_path / "run", data, device), tmp_path / device, options)
        found[device] = {name: read_json(tmp_path / device / f"{name}.json")["quantities"] for name in MEASURES}
    for name, quantities in found["cpu"].items():
        for quantity, entry in quantities.items():
            if entry["value"] is not None:
                assert found["cuda"][name][quantity]["value"] == pytest.approx(entry["value"], rel=3e-2, abs=1e-4), (
                    quantity
                )


@pytest.mark.parametrize("loss", ["cross_entropy", "linear_hinge"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_runs_in_lockstep_and_their_noise_are_those_of_the_cpu(loss, precision):
    spec = make_spec(
        model="fc_d3_w8", macro_batch=5, penalty=None, clip=None, augment=None, shuffle=False, loss=loss,
        precision=precision, noise=NoiseWatch(points=1),
    )  # fmt: skip
    specs = [spec.replace(seed=seed) for seed in range(3)]
    ours = Stack([Trainer(one, make_dataset(), "cuda") for one in specs])
    theirs = Stack([Trainer(one.replace(precision="fp32"), make_dataset()) for one in specs])
    for _ in range(8):
        ours.step()
        theirs.step()
    tolerance = 1e-4 if precision == "fp32" else 5e-2
    torch.testing.assert_close(ours.theta.cpu(), theirs.theta, rtol=tolerance, atol=tolerance)
    for one, other in zip(ours.trainers, theirs.trainers, strict=True):
        one.state.theta.copy_(other.state.theta)
        for trainer in (one, other):
            trainer.record_noise(end=True)
        found, expected = one.state.noise[-1], other.state.noise[-1]
        assert found["norms"] == pytest.approx(expected["norms"], rel=1e-3)
        assert found["line"]["gradient_norm"] == pytest.approx(expected["line"]["gradient_norm"], rel=1e-3)
