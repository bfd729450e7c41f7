"""The benchmarks run, and what they compare is the same computation."""

import importlib
import json

import common
import devices
import product_distance
import pytest
import step_gpu
import steps
import torch
from conftest import ROOT, make_dataset, make_spec, python

from whysgd.models.build import build_model
from whysgd.study import cost
from whysgd.study.cost import Device, Work, seconds_of
from whysgd.study.networks import network
from whysgd.study.registry import make
from whysgd.training.loop import Options, Trainer

# Those that draw nothing: the loop draws otherwise.
COMPARED = [name for name in steps.PENALTIES if name not in ("FT", "UJ")]


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "benchmarks").glob("*.py")])
def test_every_benchmark_finds_what_it_imports(name):
    importlib.import_module(name)


@pytest.mark.parametrize("penalty", [steps.PENALTIES[name] for name in COMPARED], ids=COMPARED)
def test_the_plain_loop_makes_the_step_it_is_compared_with(penalty):
    dataset = make_dataset()
    spec = make_spec(
        penalty=penalty, clip=None, augment=None, shuffle=False, drop_last=True, lr=0.1,
        schedule=make("schedule", "constant", unit="epoch", warmup=0),
    )  # fmt: skip
    ours = Trainer([spec], dataset, Options(together=1), dtype=torch.float64)
    model = build_model(spec.model, 1, 3, spec.seed).double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = [(ours.normalize(x[0, 0]), y[0, 0]) for x, y in ours.loader.groups(0, 0, ours.micro_batches)]
    for _ in range(3):
        ours.step()
        steps.plain_step(model, optimizer, batches, penalty, 0.1)
    tolerance = 1e-5 if penalty and not getattr(penalty, "exact", True) else 1e-9
    found = ours.tensors(ours.states[0])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=tolerance, atol=tolerance)


def test_products_are_compared_before_during_and_after_a_run():
    spec, places = make_spec(epochs=3, clip=None), [0, 1, 3]
    found = product_distance.states(spec, make_dataset(), places, torch.device("cpu"))
    assert [(step, trainer.batch.step) for step, trainer in found] == [(place, place) for place in places]


def test_arithmetic_is_counted_from_the_network():
    # Forward and backward (which has no gradient for images) of two linear maps over 10 images.
    inputs, width, classes = 3 * 32 * 32, 16, 10
    expected = 2 * 10 * (2 * inputs * width + 3 * width * classes)
    assert step_gpu.pass_flops(f"fc_d2_w{width}", 10) == pytest.approx(expected)


def test_a_table_shows_what_the_json_has(tmp_path, capsys):
    lines = [{"case": "a", "ms": 12.345, "ratio": float("nan")}, {"case": "b", "ms": 1234.5, "ratio": 0.5}]
    common.write_table("x", "Two cases.", lines, tmp_path)
    assert json.loads((tmp_path / "x.json").read_text())[0] == {"case": "a", "ms": 12.345, "ratio": None}
    text = (tmp_path / "x.md").read_text()
    assert text.startswith("Two cases.\n\n| case")
    assert "| a      | 12.3 |       – |" in text
    assert text.strip() in capsys.readouterr().out


def test_times_are_taken_in_turns():
    calls = []
    times = common.side_by_side({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    assert common.median_ratio([2, 9, 4], [1, 3, 4]) == 2


def test_the_numbers_of_a_device_are_found_from_what_steps_take():
    truth = Device("this", "cpu", 1, "", "", step_us=300, operation_us=50, micro_batch_us=8, gflops=100, gbytes=2)
    seconds = [
        seconds_of([Work(1, 1, micro_batches, size)], network(*shape, devices.CLASSES), truth)
        for *shape, size, micro_batches in devices.SHAPES
    ]
    found = devices.fitted(devices.SHAPES, seconds)
    assert found == pytest.approx({name: getattr(truth, name) for name in found}, rel=0.01)


def test_a_device_replaces_the_one_of_its_name(tmp_path, monkeypatch):
    file = tmp_path / "devices.json"
    file.write_text(cost.DEVICES.read_text())
    for module in (devices, cost):
        monkeypatch.setattr(module, "DEVICES", file)
    mine = cost.load_device("cpu")._replace(name="mine", gflops=1.0)
    devices.write_device(mine)
    devices.write_device(mine._replace(gflops=2.0))
    assert cost.load_device("mine").gflops == 2.0
    assert len(json.loads(file.read_text())) == len(json.loads((ROOT / "config/devices.json").read_text())) + 1


def test_steps_of_a_shape_are_timed():
    assert 0 < devices.step_seconds(("fc_d2_w4", 1, 8, 4, 2), torch.device("cpu"), least=0.01) < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["step_gpu.py", "--quick", "--device", "cpu"], ["memory.py", "--network", "resnet_mini"]]
)
def test_the_scripts_for_a_gpu_run_on_a_cpu(tmp_path, arguments):
    python(ROOT / "benchmarks" / arguments[0], *arguments[1:], cwd=tmp_path)
    assert len(list(tmp_path.glob("results/benchmarks/*.json"))) == 1
