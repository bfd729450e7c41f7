"""What an image's forward pass through a network costs, known without torch."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from whysgd.errors import UserError
from whysgd.files import read_json, write_json
from whysgd.results.paths import NETWORKS
from whysgd.study import registry

# Those of the shipped scales, by name, channels, size and classes; `python benchmarks/flops.py` writes it.
TABLE = Path(__file__).with_name("networks.json")


# Beyond this a slip of the keyboard would end in a crash: the largest here, VGG-16 for ImageNet, has 1.4e8.
MOST_PARAMETERS = 500_000_000


class Network(NamedTuple):
    """Operations of a forward pass; floating-point operations and saved bytes of an image in it; parameters."""

    operations: int
    flops: int
    saved: int
    parameters: int


@cache
def network(name: str, channels: int, size: int, classes: int) -> Network:
    """Return what a network computes: by formula, from the table, or counted once and kept in results/networks.json.

    Raises:
        UserError: there is no such network for such images, or it has too many parameters.
    """
    found = _network(name, channels, size, classes)
    check_parameters(name, found.parameters)
    return found


def check_parameters(name: str, parameters: int) -> None:
    """Refuse a network that is too large."""
    if parameters > MOST_PARAMETERS:
        raise UserError(f"model = {name!r}: has {parameters:,} parameters; allowed: at most {MOST_PARAMETERS:,}")


def _network(name: str, channels: int, size: int, classes: int) -> Network:
    family, sizes = registry.network(name) or ("", {})
    if family == "fully_connected":
        depth, width, pixels = sizes["depth"], sizes["width"], channels * size**2
        weights = (pixels + (depth - 2) * width + classes) * width
        return Network(2 * depth - 1, 2 * weights, 4 * (pixels + (depth - 1) * width), weights)
    key, kept = f"{name} {channels} {size} {classes}", read_json(NETWORKS) if NETWORKS.is_file() else {}
    if found := (kept | read_json(TABLE)).get(key):
        return Network(*found)
    command = [sys.executable, "-m", "whysgd.models.count", *key.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.splitlines() or ["no output"])[-1]
        raise UserError(why.partition("UserError: ")[2] or f"model = {name!r}: cannot be counted: {why}")
    kept[key] = [int(number) for number in done.stdout.split()]
    write_json(NETWORKS, kept)
    return Network(*kept[key])
