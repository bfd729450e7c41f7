"""What an image's forward pass through a network costs, known without torch."""

import csv
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from whysgd.errors import UserError
from whysgd.files import csv_text, write_text
from whysgd.models.catalog import architecture
from whysgd.results.paths import NETWORKS

# `python benchmarks/networks.py` writes it for the networks of the shipped scales.
TABLE = Path(__file__).with_name("networks.csv")


class Network(NamedTuple):
    """Operations of a forward pass; floating-point operations and saved bytes of an image in it; parameters."""

    operations: int
    flops: int
    saved: int
    parameters: int


@cache
def network(name: str, channels: int, size: int, classes: int) -> Network:
    """Return what a network computes: by formula, from the table, or counted once and kept in results/networks.csv.

    Raises:
        UserError: there is no such network for such images.
    """
    family, sizes = architecture(name) or ("", {})
    if family == "fc":
        depth, width, pixels = sizes["depth"], sizes["width"], channels * size**2
        weights = (pixels + (depth - 2) * width + classes) * width
        return Network(2 * depth - 1, 2 * weights, 4 * (pixels + (depth - 1) * width), weights)
    key, kept = (name, channels, size, classes), read_table(NETWORKS)
    if found := (kept | read_table(TABLE)).get(key):
        return found
    command = [sys.executable, "-m", "whysgd.models.count", *map(str, key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{name}: cannot be counted: {(done.stderr.splitlines() or ['no output'])[-1]}")
    found = Network(*map(int, done.stdout.split()))
    write_table(NETWORKS, kept | {key: found})
    return found


def read_table(file: Path) -> dict[tuple, Network]:
    """Read networks by name, channels, size and classes; none if the file does not exist."""
    rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))[1:] if file.is_file() else []
    return {(row[0], *map(int, row[1:4])): Network(*map(int, row[4:])) for row in rows}


def write_table(file: Path, networks: dict[tuple, Network]) -> None:
    """Write networks, sorted by name and shape."""
    columns = ("network", "channels", "size", "classes", *Network._fields)
    rows = [dict(zip(columns, (*key, *found), strict=True)) for key, found in sorted(networks.items())]
    write_text(file, csv_text(columns, rows))
