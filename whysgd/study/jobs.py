"""What the workflow's rules and `python -m whysgd run` both say of jobs; nothing here imports torch."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from whysgd.files import digest_of
from whysgd.study.papers import load_paper
from whysgd.study.spec import RunSpec, StoredCopies, in_lockstep


def use_this_copy(folder: str) -> None:
    """Let jobs run this interpreter and import the package from `folder`, wherever another copy is installed.

    In a conda environment or container Snakemake puts that one's interpreter in front.
    """
    os.environ["PYTHONPATH"] = folder
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]


def seeds_share_a_job(spec: RunSpec) -> bool:
    """Whether all seeds of a run are trained, and measured, in one job: the paper wants it, and they can be."""
    return load_paper(spec.paper)["seeds_together"] and in_lockstep([spec])


def seeds_place(seeds: Sequence[int]) -> str:
    """The name, without a suffix, of the log of a job for these seeds of a run."""
    # A file's name may have 255 letters.
    named = map(str, seeds) if len(seeds) < 10 else (str(seeds[0]), "to", str(seeds[-1]), digest_of(seeds))
    return "seeds-" + "-".join(named)


def store_arguments(plan: StoredCopies) -> list[str]:
    """How stored copies are made, for `build-store`."""
    flags = [flag for flag, on in (("--flip", plan.flip), ("--clean-first", plan.clean_first)) if on]
    return ["--copies", str(plan.copies), "--crop-padding", str(plan.crop_padding), "--seed", str(plan.seed), *flags]


def class_folders(own: Mapping | None) -> list[Path]:
    """The class folders of an image folder: adding or removing an image makes them newer.

    Args:
        own: its entry of the configuration's `datasets`; None for a built-in data set, which has none.
    """
    found = [] if own is None else [Path(own["path"], split) for split in ("train", "test")]
    return sorted(entry for split in found if split.is_dir() for entry in split.iterdir() if entry.is_dir())
