"""Costs are predicted from measured speeds; the arithmetic is checked by hand, the predictions against records."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from statistics import median

import pytest
import torch
from conftest import make_spec
from jsonschema import Draft202012Validator

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.study import cost, machine, speeds
from whysgd.study.config import load_config
from whysgd.study.cost import Images, evaluated_images, images_of, measured_images, stepped_images, watched_images
from whysgd.study.papers import expand
from whysgd.study.plan import seconds_of
from whysgd.study.spec import MicroBatchPenalty, NoiseWatch, Penalty, Transform, Watch, total_steps
from whysgd.study.speeds import FILE, REFERENCES, Case, Device, Speed, as_text, case_of, chosen_device, load_speeds
from whysgd.study.validation import ROOT, read_yaml
from whysgd.training.device import device_name

ABOUT = {
    "kind": "cpu", "date": "2026-01-31", "torch": "2.11.0", "threads": 1, "precision": "fp32", "engine": "eager",
    "seconds": "processor",
}  # fmt: skip
FACTORS = {
    "forward-differences": 2.0, "exact": 3.0, "micro_batch_gradient_norm": 3.0, "fisher_trace": 4.0,
    "average_jacobian": 4.0, "unit_jacobian": 4.0,
}  # fmt: skip


def device(*measured: Speed, kind="cpu") -> Device:
    return Device("a device", {**ABOUT, "kind": kind}, dict.fromkeys(REFERENCES.values(), FACTORS), measured)


MINI = Speed(Case("resnet_mini", 1, 8, 4, 5), 100.0, 400.0, 5122, 1.0)
IMAGES = Images(train=23, test=11, channels=1, size=8, classes=3)


def test_the_file_of_speeds_is_what_its_schema_says_and_has_every_network_of_the_papers():
    schema = read_yaml(ROOT / "config/speeds.schema.yaml")
    Draft202012Validator.check_schema(schema)
    errors = list(Draft202012Validator(schema).iter_errors(json.loads(FILE.read_text())))
    assert not errors, errors[0].message
    devices = load_speeds()
    assert as_text(list(devices.values())) == FILE.read_text()
    for overlay in ([], ["config/midi.yaml"], ["config/paper.yaml"]):
        config = load_config([ROOT / file for file in overlay])
        for spec in expand(config).values():
            images = images_of(config, spec.dataset)
            case = case_of([spec], images.channels, images.size, images.train)
            for one in devices.values():
                assert one.speed(case) is not None, case
    for one in devices.values():
        assert set(one.penalties) == set(REFERENCES.values())


BAD = {
    "no JSON": "{", "another thing": '{"devices": {"x": {}}}', "a list": "[]", "no device": '{"devices": {}}',
    "half a line": '{"devices": {"x": {"measured": {"kind": "cpu"}, "penalties": {}, "speeds": [{"model": "a"}]}}}',
}  # fmt: skip


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_a_damaged_file_of_speeds_is_one_line(tmp_path, text):
    file = tmp_path / "speeds.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"speeds\.json") as caught:
        load_speeds(file)
    assert "\n" not in str(caught.value)


def test_a_device_is_chosen_by_a_part_of_its_name_or_as_the_one_that_is_here(tmp_path):
    file = tmp_path / "speeds.json"
    names = ["AMD EPYC", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"]
    file.write_text(as_text([replace(device(MINI), name=name) for name in names]))
    assert chosen_device("epyc", None, file).name == "AMD EPYC"
    assert chosen_device("80gb", None, file).name == names[2]
    assert chosen_device(None, names[1], file).name == names[1]
    assert chosen_device(None, "unheard of", file).name == "AMD EPYC"
    with pytest.raises(UserError, match=r"--device 'H100': was not measured; .*AMD EPYC, NVIDIA A100"):
        chosen_device("H100", None, file)
    with pytest.raises(UserError, match="--device 'a100': is more than one device"):
        chosen_device("a100", None, file)


def test_the_nearest_speed_is_taken_and_what_is_carried_over_is_marked():
    one = replace(MINI, case=Case("resnet_mini", 1, 8, 4, 1), images_per_second=10.0)
    large = replace(MINI, case=Case("resnet_mini", 1, 8, 64, 1), images_per_second=80.0)
    narrow = Speed(Case("fc_d2_w4", 1, 8, 10, 1, 3), 1000.0, 9000.0, 296, 1.0)
    found = device(one, MINI, large, narrow)
    assert found.speed(MINI.case) == MINI
    assert found.speed(Case("resnet_mini", 1, 8, 4, 50)) == MINI
    near = found.speed(Case("resnet_mini", 1, 8, 32, 1))
    assert (near.images_per_second, near.scaled) == (80.0, True)
    # Four times as many pixels take four times as long.
    other = found.speed(Case("resnet_mini", 1, 16, 64, 1))
    assert (other.images_per_second, other.evaluated_per_second, other.scaled) == (20.0, 100.0, True)
    # 64·8 + 8·10 weights, not 64·4 + 4·10.
    wide = found.speed(Case("fc_d2_w8", 1, 8, 10, 1, 3))
    assert wide.images_per_second == pytest.approx(500.0)
    assert wide.parameters == 592
    assert found.speed(Case("vgg11", 3, 32, 100, 1)) is None
    # A measure may take blocks as it likes.
    assert found.widest(one.case).images_per_second == pytest.approx(max(100.0, 400.0 / speeds.BACKWARD))


def test_steps_are_counted_as_the_loop_makes_them():
    found = device(MINI)
    plain = make_spec(penalty=None, clip=None)  # Full batch, blocks of 5, no image left out, 4 epochs.
    count = lambda spec: stepped_images(spec, 23, found, 5122)  # noqa: E731
    assert count(plain) == 4 * 23
    assert count(replace(plain, drop_last=True)) == 4 * 20
    assert count(replace(plain, penalty=Penalty("gradient_norm"))) == 4 * 23 * 2
    assert count(replace(plain, penalty=Penalty("gradient_norm", variant="central-differences"))) == 4 * 23 * 2
    assert count(replace(plain, penalty=Penalty("gradient_norm", variant="exact"))) == 4 * 23 * 3
    stochastic = replace(plain, macro_batch=10, drop_last=True)
    assert total_steps(stochastic, 23) == 8
    assert count(stochastic) == 80
    assert count(replace(stochastic, transform=Transform("iter_graft"))) == 80 + 8 * 5
    assert count(replace(stochastic, transform=Transform("normalize"))) == 80
    sampled = MicroBatchPenalty("fisher_trace", 0.1, sample=3)
    assert count(replace(stochastic, penalty=sampled)) == 80 + 8 * 3 * 4
    assert count(replace(stochastic, penalty=replace(sampled, sample=None))) == 80 * 4


def test_what_is_measured_along_a_run_is_counted():
    spec = make_spec(penalty=None)
    assert watched_images(spec, 23) == 0
    assert watched_images(replace(spec, watch=Watch(3, 5, 2)), 23) == 2 * 10  # After steps 1 and 4 of 4.
    assert watched_images(replace(spec, noise=NoiseWatch(6)), 23) == 8 * cost.TAIL_PASSES * 23
    assert evaluated_images(spec, IMAGES) == 4 * 34
    assert evaluated_images(replace(spec, evaluations=2), IMAGES) == 2 * 34


def test_seconds_are_images_by_speed():
    spec, start = make_spec(), 7.0
    one = cost.training_cost([spec], IMAGES, device(MINI), start)
    assert one.seconds == pytest.approx(7.0 + cost.EACH_RUN + 4 * 23 * 2 / 100 + 4 * 34 / 400)
    # A stranger has no seconds, rather than wrong ones.
    assert cost.training_cost([replace(spec, model="densenet121")], IMAGES, device(MINI)).seconds is None
    nothing = cost.training_cost([replace(spec, model="densenet121")], IMAGES, device(MINI)) + one
    assert nothing.seconds is None
    assert (one + one).seconds == 2 * one.seconds
    # GPUs keep what passes need in memory of their own.
    gpu = cost.training_cost([spec], IMAGES, device(replace(MINI, saved_mb=1e4), kind="gpu"))
    assert gpu.memory_mb < 5000 < cost.training_cost([spec], IMAGES, device(replace(MINI, saved_mb=1e4))).memory_mb


def test_measures_and_landscapes_are_counted_by_their_options():
    options = load_config()["scales"]["paper"]["measuring"]
    images, spec = Images(50_000, 10_000, 3, 32, 10), make_spec()
    count = lambda name, **own: measured_images(name, {**options.get(name, {}), **own}, spec, images)  # noqa: E731
    assert count("accuracy_gap") == (0, 0, 60_000)
    assert count("keskar") == (2 * 1000 * 128, 0, 3 * 50_000)
    assert count("hessian")[1] == pytest.approx(18 * 2.7 * 50_000)
    assert count("hessian", first=100)[1] == pytest.approx(18 * 2.7 * 100)
    assert count("gradient_noise") == (0, 50_000, 0)
    assert count("fisher", exact=False)[1] == pytest.approx(count("fisher")[1] / 10)
    line = cost.landscape_cost(replace(spec, penalty=None), "line", options["landscape"], IMAGES, device(MINI), 0.0)
    assert line.seconds == pytest.approx(51 * 23 / 400)
    plane = cost.landscape_cost(spec, "plane", options["landscape"], IMAGES, device(MINI), 0.0)
    assert plane.seconds == pytest.approx(51**2 * (23 / 400 + 23 / max(100, 400 / speeds.BACKWARD)))


def test_disk_is_what_files_of_this_kind_have():
    config = load_config()
    digits = images_of(config, "digits")
    spec = expand(config)["geiping2022", "x10-sgd", 0]
    disk = cost.data_mb([spec], {"digits": digits})
    assert disk["data/digits"] * 2**20 == (512 + 1285) * (64 + 8)
    assert disk[f"stores/digits/{spec.store.name}"] * 2**20 == 2 * 512 * 64


def test_an_image_folder_is_looked_at(tmp_path):
    from PIL import Image

    for split, number in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (20, 20)).save(tmp_path / split / name / f"{i}.png")
    own = {"source": "image_folder", "path": str(tmp_path), "train_images": 5, "test_images": None, "label": None}
    assert images_of({"datasets": {"mine": own}}, "mine") == Images(5, 4, 3, 20, 2)
    (tmp_path / "train/a/0.png").write_text("no image")
    with pytest.raises(UserError, match=r"train/a/0\.png: not a readable image"):
        images_of({"datasets": {"mine": own}}, "mine")


def records() -> list[tuple]:
    """Runs that were kept, with what they took on a device whose speeds are known: (metrics, device)."""
    known, found = load_speeds(), []
    for file in (ROOT / "results/records").rglob("seed-*.json"):
        metrics = read_json(file)["metrics"]
        if metrics.get("device") in known and metrics["threads"] == 1:
            found.append((metrics, known[metrics["device"]]))
    return found


def test_predictions_are_near_what_runs_took():
    from whysgd.study.spec import RunSpec

    ratios = []
    for metrics, of in records():
        spec, known = RunSpec.from_dict(metrics["settings"]), images_of(load_config(), metrics["settings"]["dataset"])
        together = [replace(spec, seed=seed) for seed in range(metrics["trained_together"])]
        predicted = cost.training_cost(together, known, of, 0.0).seconds / len(together)
        ratios.append(predicted / seconds_of(metrics))
    assert len(ratios) > 50
    assert 0.6 < median(ratios) < 1.7
    # docs/cost.md says what was found; this is the promise.
    assert sum(0.5 <= ratio <= 2 for ratio in ratios) >= 0.9 * len(ratios)
    assert max(abs(math.log(ratio)) for ratio in ratios) < math.log(4)


def test_this_machines_device_is_found_without_torch(tmp_path):
    for place, name in enumerate(("NVIDIA H100 80GB HBM3", "NVIDIA L4")):
        (tmp_path / f"0000:{place}1:00.0").mkdir()
        (tmp_path / f"0000:{place}1:00.0" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 16\n")
    assert machine.gpu_names(tmp_path) == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert machine.gpu_names(tmp_path / "none") == []
    assert machine.device_here("cpu") == device_name(torch.device("cpu"))


def test_costs_are_known_without_torch():
    command = "import sys, whysgd.study.cost, whysgd.study.plan, whysgd.overall; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0
