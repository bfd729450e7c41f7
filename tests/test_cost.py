"""Costs are arithmetic: counted by hand here, and compared with what recorded runs took."""

import json

import pytest
from conftest import ROOT, make_spec, one_line
from flops import shapes
from predictions import compared, near

from whysgd.data.shape import Images
from whysgd.files import read_json
from whysgd.models.count import count
from whysgd.study import cost, networks
from whysgd.study.config import load_config
from whysgd.study.cost import FORWARD, START, Device, Work, load_device, measuring_work, training_work
from whysgd.study.networks import TABLE, Network, network
from whysgd.study.registry import make
from whysgd.study.spec import NoiseProbe, Probe

IMAGES = Images(train=23, test=11, channels=1, size=8, classes=10)
DEVICE = Device("a device", "cpu", 1, "2.11.0", "2026-01-31", 100, 10, 1, 50, 2)


def test_arithmetic_of_known_layers():
    # 3×3 convolution, stride 2, 16 filters; a linear map of 16·14·14 features. The image and the features are kept.
    pixels = 14 * 14
    operations, flops, saved, parameters = count("conv1", 1, 28, 10)
    assert operations == 3
    assert flops == 2 * (9 * 16 * pixels + 16 * pixels * 10)
    assert saved == 4 * (28 * 28 + 16 * pixels)
    assert parameters == 9 * 16 + 16 + 16 * pixels * 10 + 10


@pytest.mark.parametrize("name", ["fc_d2_w4", "fc_d3_w32", "fc_d8_w7"])
def test_the_formula_of_fully_connected_networks_is_what_is_counted(name):
    assert network(name, 3, 8, 7) == count(name, 3, 8, 7)


def test_the_table_has_the_networks_of_the_shipped_scales_as_they_are():
    table = read_json(TABLE)
    assert set(table) == {" ".join(map(str, shape)) for shape in shapes()}
    for name in ("resnet_mini 1 8 10", "alexnet_ch8 3 32 100", "vgg11 3 32 10"):
        model, *shape = name.split()
        assert tuple(table[name]) == count(model, *map(int, shape))


def test_another_network_is_counted_once_and_one_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with one_line("model = 'alexnet_ch8': is not for images of 8×8"):
        network("alexnet_ch8", 1, 8, 10)
    shape = ("conv2", 1, 12, 5)
    assert network(*shape) == count(*shape)
    network.cache_clear()
    monkeypatch.setattr(networks.subprocess, "run", None)
    assert network(*shape) == count(*shape)


def test_steps_are_counted_as_the_loop_makes_them():
    plain = make_spec(penalty=None, clip=None, drop_last=True)  # Full batch, 4 blocks of 5, 4 epochs, 4 evaluations.
    line = Work(4, FORWARD, 1, 34)

    def work(seeds=1, **changes):
        return list(training_work(plain.replace(**changes), seeds, IMAGES))

    assert work() == [Work(4, 1, 4, 5), line]
    assert work(seeds=3) == [Work(4, 1, 12, 5), line._replace(times=12)]
    assert work(penalty=make("penalty", "gradient_norm"))[0].passes == 2
    assert work(penalty=make("penalty", "gradient_norm", variant="exact"))[0].passes == 3
    assert work(penalty=make("penalty", "fisher_trace", strength=0.1))[0].passes == 4
    assert work(batch=10)[0] == Work(8, 1, 2, 5)
    sampled = make("penalty", "fisher_trace", strength=0.1, sample=3)
    assert work(batch=10, penalty=sampled) == [Work(8, 1, 2, 5), line, Work(8, 4, 1, 3)]
    assert work(transform=make("transform", "iter_graft"))[2] == Work(4, 1, 1, 5)
    assert work(probe=Probe(every=3, micro_batch=5, micro_batches=2))[2] == Work(2, 1, 2, 5)  # After steps 1 and 4.
    assert work(noise=NoiseProbe(points=6))[2] == Work(8, 3, 4, 5)


def test_measures_are_counted_by_their_options():
    images, spec = Images(50_000, 10_000, 3, 32, 10), make_spec()
    options = load_config()["scales"]["paper"]["measuring"]

    def passed(name, **own):
        times, passes, micro_batches, size = measuring_work(name, {**options.get(name, {}), **own}, spec, images)
        return times * passes * micro_batches * size

    assert passed("accuracy_gap") == pytest.approx(60_000 / 3)
    assert passed("keskar", ascents=2, steps=1000, batch=128) == 2 * 1000 * 128
    assert passed("hessian", products=10, probes=8, first=100) == pytest.approx(2.7 * 18 * 100)
    assert passed("fisher", first=100, exact=False) == pytest.approx(passed("fisher", first=100, exact=True) / 10)
    assert passed("flatness", directions=5, step=0.1, limit=0.5, first=None) == pytest.approx(26 * 50_000 / 3)
    assert passed("tail_index") == 3 * passed("gradient_noise") == 150_000
    assert passed("my_package.my_module:my_measure") == 50_000


def test_seconds_and_files_by_hand(monkeypatch):
    monkeypatch.setattr(cost, "network", lambda *shape: Network(7, 1000, 2000, 500))
    spec = make_spec(penalty=None, drop_last=True, evaluations=2)
    found = cost.training_cost(spec, 1, IMAGES, DEVICE)
    images = 4 * 20 + 2 * 34 / 3
    overhead = 4 * (100 + 7 * (10 + 4 * 1)) + 2 * (100 + 7 * (10 + 1) / 3)
    assert found.seconds == pytest.approx(START + 1e-6 * overhead + images * (3000 / 50e9 + 2000 / 2e9))
    assert found.disk_mb == pytest.approx((4 * 500 + 5000 + 2 * 250 + 4 * 26) / 2**20)
    both = cost.measuring_cost(spec, ["accuracy_gap", "gradient_noise"], {"gradient_noise": {"micro_batch": 5}}, 2, IMAGES, DEVICE)  # fmt: skip
    one = 100e-6 + 7e-6 * (10 + 1) / 3 + 34 / 3 * (3000 / 50e9 + 2000 / 2e9)
    other = 100e-6 + 7e-6 * (10 + 23 / 5) + 23 * (3000 / 50e9 + 2000 / 2e9)
    assert both.seconds == pytest.approx(START + 2 * (one + other))


def test_a_gpu_keeps_what_passes_need_in_memory_of_its_own():
    large = make_spec(model="resnet152", batch=10, micro_batch=10)
    cifar = Images(50_000, 10_000, 3, 32, 10)
    memory = [cost.training_cost(large, 1, cifar, DEVICE._replace(kind=kind)).memory_mb for kind in ("cpu", "gpu")]
    assert memory[0] > 10_000 > 5000 > memory[1]


def test_a_part_of_a_landscape_costs_its_share():
    options = {"line_points": 51, "plane_points": 10, "images": None, "line_chunks": 1, "plane_chunks": 4}

    def found(kind, spec, seeds=1, **own):
        return cost.landscape_cost(spec, kind, {**options, **own}, seeds, IMAGES, DEVICE)

    plain = make_spec(penalty=None)
    whole, part = (found("plane", plain, plane_chunks=chunks) for chunks in (1, 4))
    assert whole.seconds - START == pytest.approx(4 * (part.seconds - START))
    assert whole.disk_mb == 4 * part.disk_mb
    assert found("line", plain, 3).seconds - START == pytest.approx(3 * (found("line", plain).seconds - START))
    assert found("line", plain).seconds < found("line", make_spec()).seconds


def test_a_device_is_found_by_its_name_a_part_of_it_or_its_kind(tmp_path, monkeypatch):
    names = ["AMD EPYC", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"]
    kinds = ("cpu", "gpu", "gpu")
    devices = [DEVICE._replace(name=name, kind=kind)._asdict() for name, kind in zip(names, kinds, strict=True)]
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(devices))
    monkeypatch.setattr(cost, "DEVICES", file)
    assert load_device("epyc").name == names[0]
    assert load_device("80gb").name == names[2]
    assert load_device(names[1], "cpu").name == names[1]
    assert load_device("unheard of", "gpu").name == names[1]
    for wanted in ("H100", "a100"):
        with one_line(f"device '{wanted}': allowed: AMD EPYC, NVIDIA A100"):
            load_device(wanted)
    file.write_text(json.dumps(devices[:1]))
    assert load_device("unheard of", "gpu") == DEVICE._replace(name="AMD EPYC", kind="gpu")


def test_predictions_are_near_what_recorded_runs_took():
    ratios: dict[str, list[float]] = {}
    for _, what, ratio in compared(ROOT / "records"):
        ratios.setdefault(what, []).append(ratio)
    assert ratios.keys() == {"training", "measuring", "memory"}
    assert min(map(len, ratios.values())) > 100
    # docs/cost.md says what was found; these are the promises.
    assert near(ratios["training"]) >= 0.9
    assert near(ratios["measuring"]) >= 0.9
    # The workflow asks for half as much again.
    assert near(ratios["memory"], 1.5) == 1
