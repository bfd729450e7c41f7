"""How near are the predicted costs to what the recorded runs took? Writes results/benchmarks/predictions.{json,md}.

A record tells the seconds of the processor that a run and its measures took, without what a job takes to start. It is
compared with what `plan` would have said before the run, so a run that ended early counts as if it had not.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from common import write_table

from whysgd.data.shape import images_of
from whysgd.files import read_json
from whysgd.results.paths import RECORDS
from whysgd.study.cost import DEVICES, START, load_device, measuring_cost, training_cost
from whysgd.study.spec import RunSpec

# Slurm's limit is three times what is predicted.
NEAR = 3


def compared(records: Path = RECORDS) -> Iterator[tuple[str, str, float]]:
    """Yield of each record its scale and paper, what was predicted (time or memory), and predicted over measured.

    Records of a device that has no numbers in config/devices.json are left out.
    """
    known = {device["name"] for device in read_json(DEVICES)}
    for file in sorted(records.glob("*/*/*/seed-*.json")):
        record = read_json(file)
        metrics, measures = record["metrics"], record["measures"]
        if metrics["device"] not in known:
            continue
        spec, device = RunSpec.from_dict(metrics["settings"]), load_device(metrics["device"])
        images, seeds = images_of({}, spec.dataset), len(metrics["batch"])
        name = f"{spec.scale}, {spec.paper}"
        training = training_cost(spec, seeds, images, device)
        # The time of a continued run is that of its last session.
        if metrics["sessions"] == 1:
            yield name, "training", (training.seconds - START) / seeds / metrics["cpu_seconds"]
        yield name, "memory", training.memory_mb / metrics["peak_memory_mb"]
        timed = {measure: found for measure, found in measures.items() if found.get("cost")}
        if timed:
            options = {measure: found["options"] for measure, found in timed.items()}
            measuring = measuring_cost(spec, list(timed), options, 1, images, device)
            taken = sum(found["cost"]["cpu_seconds"] for found in timed.values())
            yield name, "measuring", (measuring.seconds - START) / taken


def near(ratios: list[float], factor: float = NEAR) -> float:
    """Return the share of the ratios that are within a factor."""
    return sum(1 / factor <= ratio <= factor for ratio in ratios) / len(ratios)


def main() -> None:
    found: dict[tuple[str, str], list[float]] = {}
    for name, what, ratio in compared():
        for group in (name, "all"):
            found.setdefault((what, group), []).append(ratio)
    lines = [
        {
            "what": what, "runs of": group, "runs": len(ratios), "median": median(ratios), "smallest": min(ratios),
            "largest": max(ratios), "within a factor of 2 [%]": 100 * near(ratios, 2),
            "within a factor of 3 [%]": 100 * near(ratios),
        }
        for (what, group), ratios in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] == "all"))
    ]  # fmt: skip
    write_table("predictions", "Predicted over measured, of each record of the devices in config/devices.json.", lines)


if __name__ == "__main__":
    main()
