"""What every script of workflow_scripts/ needs around its work."""

import sys
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from whysgd.errors import UserError


@contextmanager
def logged(log: str):
    """Send output to a rule's log; a user's error is one line there and ends the script with 1.

    Snakemake does not redirect the output of `script:` itself.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except UserError as error:
            print(f"error: {error}", file=file)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=file)
            sys.exit(1)
