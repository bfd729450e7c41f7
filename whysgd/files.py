"""Writing files so that a reader never sees half of one."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from whysgd.errors import UserError


def write_atomically(path: str | os.PathLike, write: Callable[[Path], None], previous: Path | None = None) -> None:
    """Call `write(temporary)` beside `path`, flush it to disk and rename it to `path`.

    Args:
        path: where the file shall lie; its folder is made if it does not exist.
        write: writes the whole file to the path it is given.
        previous: what lay at `path` is kept there, as long as the new file could be written.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    # The suffix stays last, since some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        # Some writers keep their files to themselves; readers on a cluster are other users.
        temporary.chmod(0o666 & ~_umask())
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except Exception as error:
        if (reason := system_error(error)) is None:
            raise
        raise UserError(f"{path}: cannot be written ({reason})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def system_error(error: BaseException) -> str | None:
    """What the system had against reading or writing a file, in its words; None if the error is another one.

    Libraries that are written in Rust, as safetensors is, name the system's error in an exception of their own.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(number[1])) if number else None


@contextmanager
def locked(path: Path):
    """Hold a lock file, waiting for others that do.

    Raises:
        OSError: it cannot be made; FileLock by itself would wait for ever.
    """
    from filelock import FileLock  # 30 ms, which few commands need

    path.touch()
    with FileLock(path):
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | os.PathLike, value) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read JSON.

    Raises:
        UserError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


def _refuse_constant(name: str):
    """JSON has no NaN and no infinity, though Python would read them; `write_json` writes none."""
    raise ValueError(f"{name} is no number of JSON")


def sha256_of(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value) -> str:
    """A short sha256 of a JSON-able value, equal for equal values whatever their key order."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def csv_text(columns: Sequence[str], lines: Iterable[Mapping]) -> str:
    """CSV with a header; floats as Python writes them, exactly, and nothing where a line has None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
