"""whysgd: four papers on why SGD generalizes, on one training loop.

Importing the package imports neither torch nor pandas, so that the workflow can read run
specifications in milliseconds. The public names below are loaded when they are first used.
"""

import getpass
import os
from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "ComputeKeskarSharpness": "whysgd.measures.keskar",
    "GradRegularizer": "whysgd.training.regularizer",
    "KneeLRScheduler": "whysgd.training.knee",
    "RunSpec": "whysgd.study.spec",
    "UserError": "whysgd.errors",
    "alpha_estimator": "whysgd.measures.alpha",
    "alpha_estimator2": "whysgd.measures.alpha",
}
__all__ = [*_PUBLIC, "__version__"]

try:
    getpass.getuser()
except (KeyError, OSError):
    # torch and Snakemake ask for a name, which the user of a container may lack.
    os.environ["USER"] = str(os.getuid())


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'whysgd' has no attribute {name!r}")
