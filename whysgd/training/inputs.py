"""What a batch of seeds is trained on, beside its data set: stored copies, and gradient norms of another run."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from whysgd.data.canonical import Dataset
from whysgd.data.store import Store, open_store
from whysgd.errors import UserError
from whysgd.results.paths import NORMS, batch_name, batch_seeds, run_folder, store_file
from whysgd.study.length import total_steps, trained_images
from whysgd.study.spec import RunSpec
from whysgd.training.norm_log import read_norms


@dataclass(frozen=True)
class Inputs:
    """What training reads.

    Attributes:
        copies: the stored copies of a run on such.
        norms: for exter_graft, the gradient norm (seeds, steps) of the other run at each step.
        sources: digests of all that the seeds are trained on, the same for all of them.
    """

    copies: Store | None = None
    norms: np.ndarray | None = None
    sources: dict = field(default_factory=dict)


NOTHING = Inputs()


def read_inputs(specs: Sequence[RunSpec], dataset: Dataset, store: Path | None, norms: Sequence[Path]) -> Inputs:
    """Read the inputs of a batch of seeds.

    Args:
        specs: of a run, one for each seed.
        dataset: the canonical data set.
        store: file of the stored copies; None takes the workflow's.
        norms: logs of the run whose gradient norms are grafted; none takes the workflow's.

    Raises:
        UserError: a file is missing or damaged, or is not what the run asks for.
    """
    log = norms[0] if norms else None
    for given, needed, what in ((store, specs[0].store, "stored copies"), (log, specs[0].reference, "grafted norms")):
        if given and not needed:
            raise UserError(f"{given}: {specs[0].run} is no run on {what}; leave it out")
    copies = open_copies(specs[0], dataset, store)
    grafts = specs[0].reference is not None
    grafted = np.stack([read_reference(spec, dataset, norms) for spec in specs]) if grafts else None
    sources = {
        "sha256": dataset.manifest["sha256"],
        "store_sha256": copies and copies.meta["sha256"],
        "reference_digest": None if grafted is None else hashlib.sha256(grafted.tobytes()).hexdigest(),
    }
    return Inputs(copies, grafted, sources)


def open_copies(spec: RunSpec, dataset: Dataset, store: Path | None) -> Store | None:
    """Return the run's stored copies, checked to be those of its data set and settings."""
    if spec.store is None:
        return None
    copies = open_store(store or store_file(spec.dataset, spec.store.name), verify=True)
    wanted = {**spec.store.content, "source": dataset.manifest["sha256"]}
    found = {**{key: copies.meta[key] for key in spec.store.content}, "source": copies.meta["source"]["sha256"]}
    if different := [key for key in wanted if wanted[key] != found[key]]:
        raise UserError(f"{copies.path}: is of another {', '.join(different)} than the run asks for")
    return copies


def read_reference(spec: RunSpec, dataset: Dataset, norms: Sequence[Path]) -> np.ndarray:
    """Return the gradient norms that the run grafts, those of the same seed, one for each step."""
    folder = run_folder(spec.scale, spec.paper, spec.reference)
    files = list(norms) or [batch / NORMS for batch in sorted(folder.glob("seeds-*"))]
    named = [file for file in files if spec.seed in batch_seeds(file.parent.name)]
    # A log that is named lies where it may; among the workflow's, only that of this seed will do.
    file = (named or list(norms) or [folder / batch_name([spec.seed]) / NORMS])[0]
    return read_norms(file, total_steps(spec, trained_images(spec, len(dataset.train.labels))), spec.seed)
