"""How near are the predicted costs to what runs really took?

    python benchmarks/predictions.py                                            the default run's
    python benchmarks/predictions.py config/paper.yaml config/mnist.yaml        of another configuration

Compares every finished run of the configuration, in results/<scale> or among the records, that was made on a device
whose speeds are known (`config/speeds.json`), and its measures: seconds of the processor, without those in which a job
starts. Adds its lines to results/benchmarks/predictions.{json,md}, in place of those of the same scale.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from common import OUT, write_table

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.records import ROOT as RECORDS
from whysgd.study.config import load_config
from whysgd.study.cost import WARM, images_of, measuring_cost
from whysgd.study.plan import make_plan, seconds_of
from whysgd.study.speeds import load_speeds


def finished(spec) -> tuple[dict, dict] | None:
    """Metrics and measures of a run, from its folder or its record."""
    folder = Path(spec.folder)
    measures = Path(spec.folder.replace("/runs/", "/measures/"))
    if (folder / "metrics.json").is_file():
        return read_json(folder / "metrics.json"), {file.stem: read_json(file) for file in measures.glob("*.json")}
    record = RECORDS / spec.scale / spec.paper / spec.run / f"seed-{spec.seed}.json"
    if record.is_file():
        content = read_json(record)
        return content["metrics"], content["measures"]
    return None


def compared(config: dict) -> Iterator[tuple[str, str, float, float, float]]:
    """Of each run and measure: what it is, and of which paper; seconds, predicted and measured; memory, the ratio."""
    scale, devices = config["scale"], load_speeds()
    plans = {name: make_plan({**config, "warm": True}, device) for name, device in devices.items()}
    options = config["scales"][scale]["measuring"]
    for key, run in next(iter(plans.values())).runs.items():
        metrics, measures = finished(run.spec) or ({}, {})
        if metrics.get("spec_digest") != run.spec.digest or metrics["device"] not in devices or metrics["threads"] > 1:
            continue
        planned = plans[metrics["device"]].runs[key].training
        seconds = planned.seconds - WARM / metrics["trained_together"]
        yield "training", key[0], seconds, seconds_of(metrics), planned.memory_mb / metrics["peak_memory_mb"]
        images = images_of(config, run.spec.dataset)
        for name, measure in measures.items():
            if measure["threads"] == 1 and measure["device"] == metrics["device"]:
                cost = measuring_cost(run.spec, [name], options, images, devices[metrics["device"]], 0.0)
                yield "measuring", name, cost.seconds, measure["cost"]["cpu_seconds"], float("nan")


def lines(config: dict) -> list[dict]:
    """A line for the training of each paper, and one for each measure."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for what, of, *numbers in compared(config):
        found.setdefault((what, of), []).append(tuple(numbers))
    made = []
    for (what, of), numbers in sorted(found.items(), reverse=True):
        predicted, measured, memory = zip(*numbers, strict=True)
        ratios = [p / m for p, m in zip(predicted, measured, strict=True)]
        made.append(
            {
                "scale": config["scale"], "what": f"{what}, {of}", "networks": len(ratios), "median": median(ratios),
                "smallest": min(ratios), "largest": max(ratios), "of the sums": sum(predicted) / sum(measured),
                "within a factor of 2 [%]": 100 * sum(0.5 <= ratio <= 2 for ratio in ratios) / len(ratios),
                "memory": median(memory),
            }
        )  # fmt: skip
    return made


def main() -> None:
    config = load_config(sys.argv[1:])
    own = lines(config)
    if not own:
        raise UserError(f"results/{config['scale']}: no finished run of a device that was measured")
    file = OUT / "predictions.json"
    others = read_json(file) if file.is_file() else []
    every = [{k: float("nan") if v is None else v for k, v in line.items()} for line in others] + own
    every = [line for line in every if line["scale"] != config["scale"] or line in own]
    write_table("predictions", "Predicted over measured: seconds of the processor, and peak memory.", every)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
