"""Where results lie. Every path under results/ and records/ is spelled here, and nowhere else."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS, RECORDS = Path("results"), Path("records")
# What training leaves in the folder of a batch of seeds. The three logs of the gradient noise are empty but for their
# heads where a run does not measure it.
METRICS, HISTORY, NORMS, MODEL = "metrics.json", "history.csv", "gradient_norms.csv", "model.safetensors"
NOISE, LAYERS, NOISE_NORMS = "noise.csv", "layers.csv", "noise_norms.csv"
# The name of the file that holds every measure of a batch, where one job takes them all.
ALL_MEASURES = "all"
_BATCH = re.compile(r"seeds-(\d+)(?:-(\d+))?")

# What networks compute that are not among those of whysgd/study/networks.json, counted at their first use.
NETWORKS = RESULTS / "networks.json"


def batch_name(seeds: Sequence[int]) -> str:
    """Name of the folder of consecutive seeds: seeds-4 for one, seeds-0-2 for three."""
    return f"seeds-{seeds[0]}" + (f"-{seeds[-1]}" if len(seeds) > 1 else "")


def batch_seeds(name: str) -> list[int]:
    """The seeds of a folder's name; none if it is not such a name."""
    match = _BATCH.fullmatch(name)
    return list(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else []


def seed_batches(folder: Path, seeds: Iterable[int], size: int | None) -> list[list[int]]:
    """Split the seeds of a run into batches of consecutive ones, one job each.

    A batch whose folder exists stays as it is, so that asking for more seeds later trains only the new ones.

    Args:
        folder: of the run; each batch has a folder in it.
        seeds: that are wanted.
        size: largest batch; None for no limit.
    """
    left, batches = set(seeds), []
    found = [batch_seeds(path.name) for path in folder.glob("seeds-*")]
    for batch in sorted(filter(None, found), key=lambda batch: (-len(batch), batch)):
        if left.issuperset(batch):
            batches.append(batch)
            left.difference_update(batch)
    new: list[list[int]] = []
    for seed in sorted(left):
        if new and new[-1][-1] == seed - 1 and (size is None or len(new[-1]) < size):
            new[-1].append(seed)
        else:
            new.append([seed])
    return sorted(batches + new)


def run_folder(scale: str, paper: str, run: str) -> Path:
    """Folder of a run, with one folder in it for each batch of seeds."""
    return RESULTS / scale / "runs" / paper / run


def measures_folder(scale: str, paper: str, run: str) -> Path:
    """Folder of what was measured of a run, with one folder in it for each batch of seeds."""
    return RESULTS / scale / "measures" / paper / run


def landscape_folder(scale: str, paper: str, run: str, seed: int) -> Path:
    """Folder of the points of a seed's loss landscapes."""
    return RESULTS / scale / "landscapes" / paper / run / f"seed-{seed}"


def dataset_folder(dataset: str) -> Path:
    """Folder of a data set in its canonical form."""
    return RESULTS / "data" / dataset


def store_file(dataset: str, store: str) -> Path:
    """File of a data set's stored copies."""
    return RESULTS / "stores" / dataset / f"{store}.lmdb"


def record_file(scale: str, paper: str, run: str, seed: int) -> Path:
    """File of a run's record, relative to the folder of the records."""
    return Path(scale, paper, run, f"seed-{seed}.json")
