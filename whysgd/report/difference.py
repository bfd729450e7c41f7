"""What `whysgd diff` prints: the settings in which two runs differ, and what both ended with."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from whysgd.results.metrics import read_metrics
from whysgd.results.paths import METRICS, RECORDS, run_folder
from whysgd.results.record_model import read_record
from whysgd.study.changes import different_settings
from whysgd.study.papers import scaled_spec
from whysgd.study.spec import RunSpec

Run = tuple[str, str]
ACCURACIES = {"train_accuracy": "train accuracy", "test_accuracy": "test accuracy"}


def difference_text(config: Mapping, runs: Sequence[Run]) -> str:
    """Return the settings in which two runs differ at the configured scale, then their final accuracies side by side.

    Accuracies are in percent, mean ± standard deviation over the seeds that finished with the settings of today. They
    come from results/ or, without any there, from records/.
    """
    specs = [scaled_spec(config, *run, 0) for run in runs]
    names = ["/".join(run) for run in runs]
    differing = different_settings(*(spec.to_dict() for spec in specs))
    settings = [(key, *values) for key, values in differing.items()]
    text = tabulate(settings, ["setting", *names], disable_numparse=True) if settings else "No setting differs."
    ended = [_ended(spec, config["seeds"]) for spec in specs]
    missing = [name for name, (metrics, _) in zip(names, ended, strict=True) if not metrics]
    if missing:
        where = f"{' and '.join(missing)} with these settings at scale {config['scale']}"
        return f"{text}\n\nNo results of {where}: `whysgd train` makes them."
    lines = [[told, *(_over_seeds(metrics, key) for metrics, _ in ended)] for key, told in ACCURACIES.items()]
    lines.append(["from", *(place for _, place in ended)])
    return f"{text}\n\n{tabulate(lines, ['at the last step', *names], disable_numparse=True)}"


def _ended(spec: RunSpec, seeds: Iterable[int] | None) -> tuple[list[dict], str]:
    """Return the metrics of a run's seeds that were trained with these settings, and where they were found.

    The workflow and `whysgd train` may both have made a seed, with the same bits: it counts once.
    """
    batches = sorted(run_folder(spec.scale, spec.paper, spec.run).glob(f"seeds-*/{METRICS}"))
    records = sorted((RECORDS / spec.scale / spec.paper / spec.run).glob("seed-*.json"))
    trained = (metrics for file in batches for metrics in read_metrics(file))
    recorded = (read_record(file)["metrics"] for file in records)
    for place, found in (("results", trained), ("records", recorded)):
        same = {
            metrics["seed"]: metrics
            for metrics in found
            if RunSpec.from_dict(metrics["settings"]) == spec.replace(seed=metrics["seed"])
            and (seeds is None or metrics["seed"] in seeds)
        }
        if same:
            return list(same.values()), place
    return [], ""


def _over_seeds(metrics: Sequence[dict], key: str) -> str:
    values = [one["final"][key] for one in metrics if one["status"] == "finished"]
    diverged = f", {len(metrics) - len(values)} diverged" if len(values) < len(metrics) else ""
    mean = f"{statistics.mean(values):.2f}" if values else "–"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean}{spread} (n = {len(values)}{diverged})"
