"""The benchmarks run, and what they compare is the same computation."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import HUNG, ROOT, make_dataset, make_spec

sys.path.insert(0, str(ROOT / "benchmarks"))

import common
import speeds
import step_cpu
import step_gpu

from whysgd.models.build import build_model
from whysgd.study.spec import Schedule
from whysgd.study.speeds import as_text, load_speeds
from whysgd.training.device import device_name
from whysgd.training.trainer import Trainer

# Those that draw nothing: the loop draws otherwise.
COMPARED = [name for name in step_cpu.PENALTIES if name not in ("FT", "UJ")]


@pytest.mark.parametrize("penalty", [step_cpu.PENALTIES[name] for name in COMPARED], ids=COMPARED)
def test_the_plain_loop_makes_the_step_it_is_compared_with(penalty):
    dataset = make_dataset()
    spec = make_spec(
        penalty=penalty, clip=None, augment=None, shuffle=False, drop_last=True, lr=0.1,
        schedule=Schedule("epoch", 0, "constant"),
    )  # fmt: skip
    ours = Trainer(spec, dataset, blocks_at_once=1, dtype=torch.float64)
    model = build_model(spec.model, 1, 3, spec.seed).double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = [(ours.normalize(x[0]), y[0]) for x, y in ours.feed.stacks(0, 0, ours.blocks)]
    for _ in range(3):
        ours.step()
        step_cpu.plain_step(model, optimizer, batches, penalty, 0.1)
    tolerance = 1e-5 if penalty and not penalty.exact else 1e-9
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours.tensors()[name], parameter.detach(), rtol=tolerance, atol=tolerance)


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


def test_speeds_replace_those_of_a_network_and_leave_the_others(tmp_path, monkeypatch):
    before, here = next(iter(load_speeds().values())), device_name(torch.device("cpu"))
    file = tmp_path / "speeds.json"
    file.write_text(as_text([replace(before, name=here), replace(before, name="another")]))
    monkeypatch.setattr(sys, "argv", ["speeds.py", "--only", "fc_d8_w4", "--device", "cpu", "--out", str(file)])
    speeds.main()
    load_speeds.cache_clear()
    after = load_speeds(file)
    assert list(after) == [here, "another"]
    assert after["another"].speeds == before.speeds
    others = [[one for one in found.speeds if one.case.model != "fc_d8_w4"] for found in (before, after[here])]
    assert others[0] == others[1]
    own = [{one.case: one for one in found.speeds if one.case.model == "fc_d8_w4"} for found in (before, after[here])]
    assert own[0].keys() == own[1].keys() == {case for case in speeds.wanted_cases() if case.model == "fc_d8_w4"}
    for case, one in own[1].items():
        assert one != own[0][case]
        assert one.parameters == own[0][case].parameters
        assert one.images_per_second > 0
    # Three seeds are trained in lockstep at the scale of the default run.
    assert {case.lockstep for case in own[1]} >= {1, 3}


def test_a_step_that_takes_too_long_is_cut_to_fewer_blocks_and_images(monkeypatch):
    case = speeds.Case("conv2", 3, 32, 64, 40)
    # A second for each image.
    monkeypatch.setattr(speeds, "timed", lambda work, device, least, warm=1: 8.0)
    cpu = torch.device("cpu")
    assert speeds.cut(case, cpu, 100_000) == case
    assert speeds.cut(case, cpu, 200) == replace(case, blocks=3)
    assert speeds.cut(case, cpu, 20) == replace(case, block=16, blocks=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["step_gpu.py", "--quick", "--device", "cpu"], ["memory.py", "--network", "resnet_mini"]]
)
def test_the_scripts_for_a_gpu_run_on_a_cpu(tmp_path, arguments):
    command = [sys.executable, ROOT / "benchmarks" / arguments[0], *arguments[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("results/benchmarks/*.json"))) == 1


def test_a_grouping_can_be_asked_for():
    spec = replace(make_spec(), penalty=None)
    trainer = Trainer(spec, make_dataset(), grouping=step_gpu.Grouping(2, "shared"))
    assert (trainer.grouping.most, trainer.sums.copies) == (2, False)
