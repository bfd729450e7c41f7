"""How long does it take to plan a run, before the first job starts?

`python benchmarks/planning.py` writes results/benchmarks/planning.{json,md}. Each command plans from an empty folder of
results. The aims on two quiet cores: 3 s for the default run, 10 s for the paper scale.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from common import side_by_side, write_table

ROUNDS = 3
ROOT = Path(__file__).resolve().parent.parent
SCALES = {"default run": [], "paper scale": ["--configfile", str(ROOT / "config/paper.yaml")]}


def run(command: list[str]) -> None:
    """Run `python -m …` at the root of the project; an error ends the benchmark."""
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Time every command in turns and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        dry = ["snakemake", "-n", "--quiet", "--directory", folder]
        commands = {"snakemake -n": dry, "whysgd plan": ["whysgd", "plan"]}
        works = {
            (name, scale): partial(run, [*command, *options])
            for name, command in commands.items()
            for scale, options in SCALES.items()
        }
        times = side_by_side(works, ROUNDS)
    lines = [{"command": name, "plans": scale, "seconds": median(found)} for (name, scale), found in times.items()]
    write_table("planning", "Seconds to plan a run, median of three.", lines)


if __name__ == "__main__":
    main()
