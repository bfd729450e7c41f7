"""The plan of a configuration as text, and as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from tabulate import tabulate

from whysgd.study.plan import Landscape, Plan, PlannedRun
from whysgd.study.speeds import Device, load_speeds

HOUR = 3600.0


def summary(runs: Iterable[PlannedRun], landscapes: Iterable[Landscape], measures: int) -> dict:
    """Sums over runs and landscapes.

    Returns:
        `runs`, `done`, `started`, `old` and `recorded` (how many); hours of `train`, `measure` and `landscapes`, of
        which are `left`; `disk_mb` when all is there, and `working_mb`, the most that one job's checkpoints need
        beside; `longest`, (hours, name) of the longest run; `unknown`, runs of networks that were not measured;
        `scaled`, whether a speed was carried over.
    """
    runs, landscapes = list(runs), list(landscapes)
    known = [run for run in runs if run.train_seconds is not None and run.measuring.seconds is not None]
    train = sum(run.train_seconds for run in known)
    train_left = sum(run.train_seconds * (1 - run.share) for run in known)
    measure = sum(run.measuring.seconds for run in known)
    measure_left = sum(run.measuring.seconds * (1 - run.measured) for run in known)
    drawn = sum(one.cost.seconds or 0 for one in landscapes)
    drawn_left = sum((one.cost.seconds or 0) * (1 - one.done / one.parts) for one in landscapes)
    longest = max(known, key=lambda run: run.train_seconds, default=None)
    states = [run.state for run in runs]
    return {
        "runs": len(runs),
        "done": states.count("done"), "started": states.count("started"), "old": states.count("old"),
        "recorded": sum(run.recorded and run.state != "done" for run in runs),
        "measured": sum(run.measured == 1 and run.state == "done" for run in runs) if measures else 0,
        "hours": {
            "train": train / HOUR, "measure": measure / HOUR, "landscapes": drawn / HOUR,
            "left": (train_left + measure_left + drawn_left) / HOUR,
        },
        "disk_mb": sum(run.training.disk_mb + run.measuring.disk_mb for run in runs)
        + sum(one.cost.disk_mb for one in landscapes),
        "working_mb": max((run.training.working_mb for run in runs), default=0.0),
        "memory_mb": max((max(run.training.memory_mb, run.measuring.memory_mb) for run in runs), default=0.0),
        "longest": (longest.train_seconds / HOUR, _name(longest)) if longest else None,
        "unknown": sorted({run.spec.model for run in runs if run not in known}) if len(known) < len(runs) else [],
        "scaled": any(run.training.scaled for run in runs),
    }  # fmt: skip


def plan_dict(plan: Plan) -> dict:
    """The plan as JSON-able values: of each table, of all (runs that tables share counted once), and of the data."""
    measures = len(plan.config["measures"])
    tables = {
        f"{paper}/{table}": summary([plan.runs[k] for k in runs], [plan.landscapes[k] for k in drawn], measures)
        for (paper, table), (runs, drawn) in plan.tables.items()
    }
    everything = summary(plan.runs.values(), plan.landscapes.values(), measures)
    return {
        "scale": plan.config["scale"],
        "device": {"name": plan.device.name, **plan.device.about},
        "tables": tables,
        "all": everything,
        "data_mb": plan.data,
        "runs": {"/".join(map(str, key)): _run_dict(run) for key, run in plan.runs.items()},
    }


def _run_dict(run: PlannedRun) -> dict:
    return {
        "state": run.state, "share": run.share, "recorded": run.recorded, "seconds": run.train_seconds,
        "from_a_run_like_it": run.seconds is not None,
        "training": asdict(run.training), "measuring": asdict(run.measuring),
    }  # fmt: skip


def plan_text(plan: Plan, here: str) -> str:
    """The plan as a table with what one must know to read it; `here`: the device of this machine."""
    content = plan_dict(plan)
    every = content["all"]
    unit, seconds = ("h", HOUR) if every["hours"]["train"] + every["hours"]["measure"] >= 3 else ("min", 60.0)
    rows = [_row(name, table, seconds) for name, table in content["tables"].items()]
    disk = every["disk_mb"] + sum(plan.data.values())
    rows.append(_row("all, each run once", {**every, "disk_mb": disk}, seconds))
    headers = [
        "table",
        "runs",
        "done",
        *(f"{what} [{unit}]" for what in ("train", "measure", "landscapes", "left")),
        "disk",
    ]
    table = tabulate(rows, headers, disable_numparse=True, colalign=["left"] + ["right"] * 7)
    said = plan.config["scales"][content["scale"]]["description"]
    heading = f"scale {content['scale']}" + (f": {said}" if said else "")
    return "\n".join([heading, "", table, "", *_notes(plan, content, here)])


def _row(name: str, table: Mapping, seconds: float) -> list[str]:
    hours = table["hours"]
    mark = "~" if table["scaled"] else ""
    more = " + ?" if table["unknown"] else ""
    spans = (
        (mark + _number(hours[key] * HOUR / seconds) if hours[key] else "–") + more
        for key in ("train", "measure", "landscapes", "left")
    )
    return [name, str(table["runs"]), str(table["done"]), *spans, _size(table["disk_mb"])]


def _notes(plan: Plan, content: Mapping, here: str) -> list[str]:
    every, device = content["all"], plan.device
    shared = sum(table["runs"] for table in content["tables"].values()) - every["runs"]
    lines = [measured_on(device, here)]
    if shared:
        lines.append(f"{shared} runs of tables are those of another table, or of another row, and are trained once.")
    if every["longest"]:
        lines.append(f"The longest run: {every['longest'][1]}, {_span(every['longest'][0] * HOUR)}.")
    for key, text in (
        ("started", "have a checkpoint and go on from it"),
        ("old", "were trained with other settings or code and are trained again"),
        ("recorded", "have their numbers, without weights, in results/records; the workflow trains them again"),
    ):
        if every[key]:
            lines.append(f"{every[key]} runs {text}.")
    if every["scaled"]:
        lines.append("~: in part from a speed of another network, image size or block, carried over.")
    if every["unknown"]:
        names = ", ".join(every["unknown"])
        lines.append(f"?: the speed of {names} is unknown; `python benchmarks/speeds.py --configfile …` measures it.")
    data = ", ".join(f"{name} {_size(size)}" for name, size in plan.data.items())
    lines.append(
        f"Disk of all: with {data}; checkpoints take up to {_size(every['working_mb'])} more for each running job."
    )
    lines.append(f"Memory: up to {_size(every['memory_mb'])} of the computer's for a job.")
    lines.append("Hours are those of one job at a time: 4 jobs side by side, on 4 cores or GPUs, take a quarter.")
    return lines


def measured_on(device: Device, here: str) -> str:
    """Whose hours these are, in a sentence."""
    about = device.about
    threads = f"{about['threads']} thread{'s' * (about['threads'] > 1)}, " if about["kind"] == "cpu" else ""
    how = f"{threads}{about['precision']}), measured on {about['date']} with torch {about['torch']}"
    text = f"Hours are of {device.name} ({how}."
    if device.name != here:
        text += f" This machine's {here} has not been measured."
    if all(one.about["kind"] == "cpu" for one in load_speeds().values()):
        text += (
            " No GPU has been measured: hours on one are not known. `python benchmarks/speeds.py` measures it there."
        )
    return text


def progress_text(plan: Plan) -> str:
    """How far a configuration is, in a line, from the files that are there."""
    every = summary(plan.runs.values(), plan.landscapes.values(), len(plan.config["measures"]))
    hours = every["hours"]
    whole = hours["train"] + hours["measure"] + hours["landscapes"]
    share = 1 - hours["left"] / whole if whole else 1.0
    measured = f", {every['measured']} measured" if plan.config["measures"] else ""
    started = f", {every['started']} begun" if every["started"] else ""
    return (
        f"{every['done']} of {every['runs']} networks trained{started}{measured}; {100 * share:.0f} % of the work,"
        f" {_span(hours['left'] * HOUR)} of work left on {plan.device.name}, one job at a time"
    )


def _name(run: PlannedRun) -> str:
    return f"{run.spec.paper}/{run.spec.run} seed {run.spec.seed}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2g}"


def _span(seconds: float) -> str:
    for unit, length in (("h", HOUR), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{_number(seconds)} s"


def _size(mb: float) -> str:
    return f"{mb / 1024:.1f} GB" if mb >= 1000 else f"{mb:.0f} MB" if mb >= 1 else "under 1 MB"
