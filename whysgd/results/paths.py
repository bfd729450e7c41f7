"""Where results lie. Every path of a result is spelled here, and nowhere else; only rules name logs.

The patterns have wildcards in braces, for the rules and for `str.format`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS, RECORDS = Path("results"), Path("records")
DATASET = "results/data/{dataset}"
STORE = "results/stores/{dataset}/{store}.lmdb"
# A batch of seeds of a run, and one file of its measures: of one measure by its name, or of all of them.
RUN = "results/{scale}/runs/{paper}/{run}/{seeds}"
MEASURES = "results/{scale}/measures/{paper}/{run}/{seeds}/{measures}.json"
ALL_MEASURES = "all"
LANDSCAPE = "results/{scale}/landscapes/{paper}/{run}/{seeds}/{kind}_{chunk}-of-{chunks}.csv"
FRAME = "results/{scale}/frames/{paper}_{frame}.csv"
RUNS, HISTORIES, MEASURED = (FRAME.replace("{frame}", name) for name in ("runs", "histories", "measures"))
TABLE = "results/{scale}/tables/{paper}_{table}"
CLAIMS = "results/{scale}/claims/{paper}"
FIGURE = "results/{scale}/figures/{paper}_{table}_{figure}"
GRID_OF_COPIES = "results/{scale}/figures/{dataset}_{store}_augmentation"
TRAJECTORIES = "results/{scale}/figures/{paper}_gd-2d"
CORRELATIONS = "results/{scale}/figures/measures_correlations"
SUMMARY = "results/{scale}/measures"
PAGE = "results/{scale}/index.html"

# What training leaves in the folder of a batch. The three logs of the gradient noise have a head alone where a run does
# not measure it.
METRICS, HISTORY, NORMS, MODEL = "metrics.json", "history.csv", "gradient_norms.csv", "model.safetensors"
# The weights of the selected step, of a run that selects one on held-out images; empty for others.
BEST = "best.safetensors"
NOISE, LAYERS, NOISE_NORMS = "noise.csv", "layers.csv", "noise_norms.csv"
_BATCH = re.compile(r"seeds-(\d+)(?:-(\d+))?")

# What networks compute that are not among those of whysgd/study/networks.json, counted at their first use.
NETWORKS = RESULTS / "networks.json"


def batch_name(seeds: Sequence[int]) -> str:
    """Return the name of the folder of consecutive seeds: seeds-4 for one, seeds-0-2 for three."""
    return f"seeds-{seeds[0]}" + (f"-{seeds[-1]}" if len(seeds) > 1 else "")


def batch_seeds(name: str) -> list[int]:
    """Return the seeds of a folder's name; none if it is not such a name."""
    match = _BATCH.fullmatch(name)
    return list(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else []


def seed_batches(folder: Path, seeds: Iterable[int], size: int | None) -> list[list[int]]:
    """Split the seeds of a run into batches of consecutive ones, one job each.

    A batch that has its folder in that of the run stays as it is, so that asking for more seeds later trains only the
    new ones. `size` is that of the largest batch; None is no limit.
    """
    left, batches = set(seeds), []
    found = [batch_seeds(path.name) for path in folder.glob("seeds-*")]
    for batch in sorted(filter(None, found), key=lambda batch: (-len(batch), batch)):
        if left.issuperset(batch):
            batches.append(batch)
            left.difference_update(batch)
    new: list[list[int]] = []
    for seed in sorted(left):
        if new and new[-1][-1] == seed - 1 and len(new[-1]) != size:
            new[-1].append(seed)
        else:
            new.append([seed])
    return sorted(batches + new)


def run_folder(scale: str, paper: str, run: str) -> Path:
    """Return the folder of a run, with one folder in it for each batch of seeds."""
    return Path(RUN.format(scale=scale, paper=paper, run=run, seeds=""))


def measures_folder(scale: str, paper: str, run: str, seeds: Sequence[int]) -> Path:
    """Return the folder of the measures of a batch."""
    return Path(MEASURES.format(scale=scale, paper=paper, run=run, seeds=batch_name(seeds), measures="")).parent


def landscape_folder(scale: str, paper: str, run: str, batch: Sequence[int]) -> Path:
    """Return the folder of the points of a batch's loss landscapes."""
    names = dict.fromkeys(("kind", "chunk", "chunks"), "")
    return Path(LANDSCAPE.format(scale=scale, paper=paper, run=run, seeds=batch_name(batch), **names)).parent


def dataset_folder(dataset: str) -> Path:
    """Return the folder of a data set in its canonical form."""
    return Path(DATASET.format(dataset=dataset))


def store_file(dataset: str, store: str) -> Path:
    """Return the file of a data set's stored copies."""
    return Path(STORE.format(dataset=dataset, store=store))


def record_file(scale: str, paper: str, run: str, seed: int) -> Path:
    """Return the file of a record, relative to the folder of the records."""
    return Path(scale, paper, run, f"seed-{seed}.json")
