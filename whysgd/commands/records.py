"""`whysgd record` and `whysgd verify`: what the repository keeps of runs."""

from itertools import chain

from whysgd.commands._shared import a_path, add_command, add_device_flags, prepared_device
from whysgd.results.paths import RECORDS

RECORDING = [
    "whysgd record results/mini/runs/*/*/*",
    "whysgd record results/mini/runs/geiping2022/sgd/seeds-0-5 --out my_records",
]
VERIFYING = [
    "whysgd verify records/mini/geiping2022/fb/seed-0.json",
    "whysgd verify records/mini/*/*/seed-0.json --device cpu --threads 2",
    "whysgd verify records/mini/*/*/*.json --first-steps",
]


def add(commands) -> None:
    """Add the commands."""
    record = add_command(commands, "record", _record, "keep what finished runs measured in records", RECORDING)
    record.add_argument("runs", nargs="+", type=a_path, metavar="FOLDER", help="folders of finished seeds")
    record.add_argument("--measures", type=a_path, help="folder of their measures (default: the workflow's)")
    record.add_argument("--out", type=a_path, default=RECORDS)

    told = "train and measure the run of a record again, and compare"
    verify = add_command(commands, "verify", _verify, told, VERIFYING)
    verify.add_argument("records", nargs="+", type=a_path, metavar="RECORD", help="files under records")
    verify.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
    verify.add_argument("--store", type=a_path, help="file of stored copies, for a run on such (default: likewise)")
    verify.add_argument("--first-steps", action="store_true", help="make and compare the first 16 steps alone")
    add_device_flags(verify)


def _record(options) -> None:
    from whysgd.results.records import write_records

    written = write_records(options.runs, options.measures, options.out)
    size = sum(path.stat().st_size for path in written)
    print(f"{options.out}: {len(written)} written, {size / 1000:.1f} kB")


def _verify(options) -> int:
    device, _gpu = prepared_device(options)
    from whysgd.results.verify import ANOTHER, COLUMNS, verify_records

    widths = (max(map(len, map(str, options.records))), 28, 20, 24, 24, 0)
    verdicts = []
    heads = {name: name for name in COLUMNS}
    rows = verify_records(options.records, options.data, options.store, device, options.first_steps)
    for row in chain([heads], rows):
        print(
            "  ".join(row[name].ljust(width) for name, width in zip(COLUMNS, widths, strict=True)).rstrip(), flush=True
        )
        verdicts.append(row["verdict"])
    return int(ANOTHER in verdicts)
