"""The environment of the workflow's jobs."""

import os
import sys


def use_this_copy(folder: str) -> None:
    """Let jobs run this interpreter and import the package from `folder`, wherever another copy is installed.

    In a conda environment or container Snakemake puts that one's interpreter in front.
    """
    os.environ["PYTHONPATH"] = folder
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
