"""Measured speeds: config/speeds.json, which `benchmarks/speeds.py` writes, device by device.

This module never imports torch; the workflow reads it at parse time.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.study.registry import network
from whysgd.study.spec import RunSpec, in_lockstep
from whysgd.study.validation import ROOT

FILE = ROOT / "config" / "speeds.json"
# Networks whose penalties' factors stand for all: of those of few operations, fully connected ones, and large ones.
REFERENCES = {"small": "resnet_mini", "fc": "fc_d2_w32", "large": "resnet18"}
# Networks with fewer parameters are bound by the overhead of operations.
LARGE = 1_000_000
# Forward and backward takes so many times as long as forward alone, in batches of a thousand.
BACKWARD = 3.5


@dataclass(frozen=True)
class Case:
    """What a training speed depends on, penalties apart.

    Attributes:
        model: the network's name.
        channels, size: of the images.
        block, blocks: images of a block, blocks of a step.
        lockstep: runs that are trained in lockstep (see `whysgd.study.spec.in_lockstep`); 0 if they cannot be.
    """

    model: str
    channels: int
    size: int
    block: int
    blocks: int
    lockstep: int = 0


@dataclass(frozen=True)
class Speed:
    """What was measured of a case.

    Attributes:
        case: the one that was measured.
        images_per_second: of training without a penalty, a run's share.
        evaluated_per_second: images whose loss is taken, forward alone.
        parameters: of the network.
        saved_mb: what a forward pass over one block keeps for the backward pass.
        scaled: whether the speed was carried over from another network, image size or block.
    """

    case: Case
    images_per_second: float
    evaluated_per_second: float
    parameters: int
    saved_mb: float
    scaled: bool = False


@dataclass(frozen=True)
class Device:
    """The speeds of a device.

    Attributes:
        name: as torch, or the processor, has it.
        about: `kind` (cpu or gpu), `date`, `torch`, `threads`, `precision`, `engine`, and what `seconds` they are.
        penalties: for each of `REFERENCES`, how many times a plain step one with a penalty takes, by its kind.
        speeds: of the measured cases.
    """

    name: str
    about: dict
    penalties: dict[str, dict[str, float]]
    speeds: tuple[Speed, ...]

    @cached_property
    def _of_network(self) -> dict[tuple, list[Speed]]:
        found: dict[tuple, list[Speed]] = {}
        for speed in self.speeds:
            found.setdefault(_network(speed.case), []).append(speed)
        return found

    def speed(self, case: Case) -> Speed | None:
        """The speed of a case; else that of the nearest one, carried over; None where nothing is near."""
        same = self._of_network.get(_network(case))
        if same:
            nearest = min(same, key=lambda s: _distance(s.case, case))
            return replace(nearest, scaled=nearest.scaled or nearest.case.block != case.block)
        other = [s for s in self.speeds if s.case.model == case.model]
        if other:
            nearest = min(
                other, key=lambda s: (abs(math.log(_pixels(s.case) / _pixels(case))), _distance(s.case, case))
            )
            return _slower(nearest, _pixels(case) / _pixels(nearest.case), nearest.parameters)
        sizes = {s: connected(s.case) for s in self.speeds if connected(s.case)}
        weights = connected(case)
        if weights and sizes:
            nearest = min(sizes, key=lambda s: (abs(math.log(sizes[s] / weights)), _distance(s.case, case)))
            return _slower(nearest, weights / sizes[nearest], weights)
        return None

    def widest(self, case: Case) -> Speed | None:
        """The speed of a case's network if blocks need not follow one another, as in a measure; None as `speed`."""
        nearest = self.speed(case)
        if nearest is None or (nearest.scaled and _network(nearest.case) != _network(case)):
            return nearest
        best = max(self._of_network[_network(case)], key=lambda s: s.images_per_second)
        fast = max(best.images_per_second, best.evaluated_per_second / BACKWARD)
        return replace(best, images_per_second=fast, scaled=False)

    def factor(self, kind: str | None, parameters: int, family: str) -> float:
        """How many times a plain step's time a step with a penalty of this kind takes."""
        if kind is None:
            return 1.0
        group = "fc" if family == "fc" else "large" if parameters >= LARGE else "small"
        return self.penalties[REFERENCES[group]][kind]


def case_of(specs: Sequence[RunSpec], channels: int, size: int, images: int) -> Case:
    """The case of runs that are trained in one job; `images`: of the set they are trained on."""
    spec = specs[0]
    blocks = spec.blocks_per_step or max(1, images // spec.block)
    return Case(spec.model, channels, size, spec.block, blocks, len(specs) if in_lockstep(specs) else 0)


def penalty_kind(spec: RunSpec) -> str | None:
    """The key of a run's penalty in `Device.penalties`; None for runs without one."""
    return spec.penalty and getattr(spec.penalty, "variant", spec.penalty.name).replace("central-", "forward-")


def connected(case: Case, classes: int = 10) -> int | None:
    """Parameters of a fully connected network; None for another one."""
    family, sizes = network(case.model) or ("", {})
    if family != "fc":
        return None
    depth, width = sizes["depth"], sizes["width"]
    return _pixels(case) * width + (depth - 2) * width * width + width * classes


@cache
def load_speeds(file: Path = FILE) -> dict[str, Device]:
    """All devices that were measured, by name.

    Raises:
        UserError: the file is missing or not valid.
    """
    content, devices = read_json(file), {}
    try:
        for name, entry in content["devices"].items():
            speeds = []
            for line in entry["speeds"]:
                case = {key: line.pop(key) for key in ("model", "channels", "size", "block", "blocks", "lockstep")}
                speeds.append(Speed(Case(**case), **line))
            devices[name] = Device(name, entry["measured"], entry["penalties"], tuple(speeds))
            devices[name].about["kind"], devices[name].factor("exact", 0, "fc")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not what `python benchmarks/speeds.py` writes ({error!r})") from None
    if not devices:
        raise UserError(f"{file}: no device was measured; `python benchmarks/speeds.py` adds this machine's")
    return devices


def chosen_device(wanted: str | None = None, here: str | None = None, file: Path = FILE) -> Device:
    """The device to predict for: the wanted one, by its name or a part of it; else the one here, if it was measured;
    else the first of the file.

    Raises:
        UserError: it was not measured.
    """
    devices = load_speeds(file)
    if wanted is None:
        return devices.get(here or "", next(iter(devices.values())))
    found = [name for name in devices if name == wanted] or [name for name in devices if wanted.lower() in name.lower()]
    if len(found) != 1:
        problem = "was not measured" if not found else "is more than one device"
        allowed = ", ".join(devices)
        raise UserError(
            f"--device {wanted!r}: {problem}; config/{file.name} has: {allowed} (benchmarks/speeds.py adds one)"
        )
    return devices[found[0]]


def as_text(devices: Sequence[Device]) -> str:
    """config/speeds.json for these devices: JSON with a line for each case, small networks first, fit for a diff."""
    parts = []
    for device in devices:
        lines = []
        for speed in sorted(device.speeds, key=lambda speed: (speed.parameters, *astuple(speed.case))):
            line = asdict(speed)
            del line["scaled"]
            lines.append(_line({**line.pop("case"), **line}))
        penalties = ",\n".join(f"   {json.dumps(name)}: {_line(ratios)}" for name, ratios in device.penalties.items())
        speeds = ",\n".join(f"   {line}" for line in lines)
        parts.append(
            f'  {json.dumps(device.name)}: {{\n  "measured": {json.dumps(device.about)},\n'
            f'  "penalties": {{\n{penalties}\n  }},\n  "speeds": [\n{speeds}\n  ]\n  }}'
        )
    return '{"devices": {\n' + ",\n".join(parts) + "\n}}\n"


def _line(values: dict) -> str:
    """JSON with four digits of every number that was measured."""
    return json.dumps({key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in values.items()})


def _network(case: Case) -> tuple:
    return case.model, case.channels, case.size


def _pixels(case: Case) -> int:
    return case.channels * case.size * case.size


def _distance(a: Case, b: Case) -> float:
    """How unlike two cases of one network are; those in lockstep take another path."""
    if bool(a.lockstep) != bool(b.lockstep):
        return math.inf
    ratios = (a.block / b.block, a.blocks / b.blocks, max(1, a.lockstep) / max(1, b.lockstep))
    return sum(weight * abs(math.log(ratio)) for weight, ratio in zip((3, 1, 2), ratios, strict=True))


def _slower(speed: Speed, times: float, parameters: int) -> Speed:
    """A speed carried over to so many times the work."""
    return replace(
        speed, images_per_second=speed.images_per_second / times, parameters=parameters, scaled=True,
        evaluated_per_second=speed.evaluated_per_second / times, saved_mb=speed.saved_mb * times,
    )  # fmt: skip
