"""Predict what a job costs, from arithmetic and five measured numbers of a device.

docs/cost.md has the formula and how near it is. Nothing here imports torch: the workflow reads it when it starts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from whysgd.data.shape import Images
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.study.length import micro_batches_per_epoch, phases, total_steps, trained_images
from whysgd.study.networks import Network, network
from whysgd.study.spec import MAX_UP, RunSpec
from whysgd.study.validation import ROOT

DEVICES = ROOT / "config" / "devices.json"
START = 2.0  # seconds until Python, torch and the images are there
# Passes, forward and backward, of a step with a penalty; EXACT for one that is not listed.
PASSES = {None: 1, "forward-differences": 2, "fisher_trace": 4, "average_jacobian": 4, "unit_jacobian": 4}
EXACT = 3
# In passes: one that only goes forward; a product with the Hessian; an image's gradient for each class.
FORWARD, PRODUCT, EACH_CLASS = 1 / 3, 2.7, 2.2
WALK = 12  # steps of a walk until the loss has risen
# Megabytes of a process that has loaded torch, and of what a measure's pass may keep. Training keeps what so many
# images of an evaluation do, and as many micro-batches at once as have so many numbers in one channel of their images.
PROCESS_MB, MEASURE_MB, EVALUATED, TOGETHER, MB = {"cpu": 700, "gpu": 4000}, 1024, 200, 1 << 15, 2**20


class Device(NamedTuple):
    """A device as `benchmarks/devices.py` measured it: microseconds of overhead, and what it does in a nanosecond."""

    name: str
    kind: str
    threads: int
    torch: str
    date: str
    step_us: float
    operation_us: float
    micro_batch_us: float
    gflops: float
    gbytes: float


class Work(NamedTuple):
    """So many times, so many passes forward and backward, each over so many micro-batches of so many images."""

    times: float
    passes: float
    micro_batches: float
    size: float


class Cost(NamedTuple):
    """Seconds of a job; megabytes of memory, at most about; megabytes of the files that it leaves."""

    seconds: float
    memory_mb: float
    disk_mb: float


def load_device(wanted: str, kind: str | None = None) -> Device:
    """Return the device of config/devices.json with a name, or a part of one, or else the first of a kind (cpu, gpu).

    Raises:
        UserError: no device, or more than one, has that name, and no kind is given.
    """
    devices, kind = [Device(**entry) for entry in read_json(DEVICES)], wanted if wanted in PROCESS_MB else kind
    found = [device for device in devices if device.name == wanted]
    found = found or [device for device in devices if wanted.lower() in device.name.lower() and not kind]
    if len(found) == 1:
        return found[0]
    if kind:  # Of one that was never measured, the first device stands in.
        return next((device for device in devices if device.kind == kind), devices[0]._replace(kind=kind))
    names = ", ".join(device.name for device in devices)
    raise UserError(f"device {wanted!r}: allowed: {names}; benchmarks/devices.py adds one to config/devices.json")


def training_cost(spec: RunSpec, seeds: int, images: Images, device: Device) -> Cost:
    """Return the cost of a job that trains a run with so many seeds, none of which ends early."""
    net, count = network_of(spec, images), trained_images(spec, images.train)
    steps, works = total_steps(spec, count), list(training_work(spec, seeds, images))
    lines = spec.evaluations + (steps // spec.probe.every if spec.probe else 0)
    noise = (spec.noise.points + 2) * (_noise_images(spec, images) // spec.micro_batch) if spec.noise else 0
    files = 4 * net.parameters + 5000 + 250 * lines + 26 * steps + 25 * noise
    most = max(1, TOGETHER // (spec.micro_batch * images.size**2))
    passes, together = works[0].passes, min(works[0].micro_batches, most)
    held = (EVALUATED + passes * together * spec.micro_batch) * net.saved
    memory = _memory_mb(device, 2 * images.mb, held + 40 * net.parameters * seeds)
    return Cost(START + seconds_of(works, net, device), memory, files * seeds / MB)


def training_work(spec: RunSpec, seeds: int, images: Images) -> Iterable[Work]:
    """Yield the work of a run's steps, of its history, and of what else is measured along it."""
    count = trained_images(spec, images.train)
    steps, parts = total_steps(spec, count), phases(spec, count)
    each = [part.spec.micro_batches_per_step or micro_batches_per_epoch(part.spec, count) for part in parts]
    lengths = [end - part.step for part, end in zip(parts, [*(part.step for part in parts[1:]), steps], strict=True)]
    micro_batches = sum(length * one for length, one in zip(lengths, each, strict=True)) / steps
    size = spec.micro_batch * (MAX_UP if spec.loss == "max_up" else 1)
    kind = spec.penalty and getattr(spec.penalty, "variant", spec.penalty.name)
    passes, sample = PASSES.get(kind, EXACT), getattr(spec.penalty, "sample", None)
    yield Work(steps, 1 if sample else passes, micro_batches * seeds, size)
    forward = FORWARD * (1 + spec.test_time_flips)
    yield Work(min(spec.evaluations, steps) * seeds, forward, 1, images.train + images.test)
    if spec.select_every:
        yield Work(steps // spec.select_every * seeds, forward, 1, images.train - count)
    if sample:
        yield Work(steps, passes, seeds, sample)
    if any(one.name == "iter_graft" for one in spec.transforms):
        yield Work(steps, 1, seeds, spec.micro_batch)
    if spec.probe:
        yield Work(-(-steps // spec.probe.every) * seeds, 1, spec.probe.micro_batches, spec.probe.micro_batch)
    if spec.noise:
        micro_batches = _noise_images(spec, images) // spec.micro_batch
        yield Work((spec.noise.points + 2) * seeds, 3, micro_batches, spec.micro_batch)
    if spec.stop_every:  # A thousand images rule it out, as a rule.
        yield Work(steps // spec.stop_every * seeds, FORWARD, 1, min(1000, count))


def _noise_images(spec: RunSpec, images: Images) -> int:
    """Return of how many images the gradient noise is measured."""
    return trained_images(spec, images.train) + images.test * spec.noise.test


def measuring_cost(
    spec: RunSpec, measures: Sequence[str], options: Mapping, seeds: int, images: Images, device: Device
) -> Cost:
    """Return the cost of a job that takes these measures of a run's seeds; `options`: the scale's `measuring`."""
    net = network_of(spec, images)
    works = [measuring_work(measure, options.get(measure, {}), spec, images) for measure in measures]
    held = EXACT * min(MEASURE_MB * MB, images.train * net.saved)
    memory = _memory_mb(device, 4 * images.mb, held + 160 * net.parameters)
    return Cost(START + seeds * seconds_of(works, net, device), memory, 0.002 * seeds * len(works))


def measuring_work(measure: str, options: Mapping, spec: RunSpec, images: Images) -> Work:
    """Return the work of a measure; one that is not listed passes over the training images once."""
    count = trained_images(spec, images.train)
    first = min(options.get("first") or count, count)
    times, passes, size = {
        "accuracy_gap": lambda: (1, FORWARD, count + images.test),
        "keskar": lambda: (options["ascents"] * options["steps"], 1, options["batch"]),
        "flatness": lambda: (1 + options["directions"] * min(WALK, options["limit"] / options["step"]), FORWARD, first),
        "hessian": lambda: (options["products"] + options["probes"], PRODUCT, first),
        "fisher": lambda: (1, EACH_CLASS * (images.classes if options["exact"] else 1), first),
        "tail_index": lambda: (1, 3, count),
    }.get(measure, lambda: (1, 1, count))()
    micro_batch = options.get("micro_batch", size)
    return Work(times, passes, size / micro_batch, micro_batch)


def landscape_cost(spec: RunSpec, kind: str, options: Mapping, seeds: int, images: Images, device: Device) -> Cost:
    """Return the cost of one part of the landscapes, "line" or "plane", of so many seeds.

    `options` are `measuring.landscape` of the scale.
    """
    net, count = network_of(spec, images), trained_images(spec, images.train)
    points = seeds * (options["line_points"] if kind == "line" else options["plane_points"] ** 2)
    points, count = points / options[f"{kind}_chunks"], min(options["images"] or count, count)
    # The published penalty has the gradient of every micro-batch in it.
    work = Work(points, FORWARD + hasattr(spec.penalty, "block_strength"), 1, count)
    memory = _memory_mb(device, 4 * images.mb, min(MEASURE_MB * MB, count * net.saved) + 40 * net.parameters)
    return Cost(START + seconds_of([work], net, device), memory, 150 * points / MB)


def network_of(spec: RunSpec, images: Images) -> Network:
    """Return what the network of a run computes."""
    return network(spec.model, images.channels, images.size, images.classes)


def seconds_of(works: Iterable[Work], net: Network, device: Device) -> float:
    """Return how long it takes: overhead of steps, operations and micro-batches, arithmetic and memory traffic."""
    each = (net.flops / FORWARD / device.gflops + net.saved / device.gbytes) / 1e9
    total = 0.0
    for times, passes, micro_batches, size in works:
        operations = passes * net.operations * (device.operation_us + micro_batches * device.micro_batch_us)
        total += times * ((device.step_us + operations) / 1e6 + passes * micro_batches * size * each)
    return total


def _memory_mb(device: Device, data: float, held: float) -> float:
    """Return the computer's memory; `data`: megabytes of images, `held`: bytes that a GPU has in its own memory."""
    return PROCESS_MB[device.kind] + data + (held / MB if device.kind == "cpu" else 0)
