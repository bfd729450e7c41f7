# Which rules train and measure: those of train.smk and measure.smk are made of these.
from whysgd.study.jobs import seeds_place
from whysgd.overall import show_progress
from whysgd.warm import offer


include: "resources.smk"


def seed_groups():
    """The runs whose seeds share a job, by these seeds and by whether they measure their gradient noise."""
    groups = {}
    for (_, run), specs in ALL_SEEDS.items():
        if run in TOGETHER:
            seeds, noisy = tuple(spec.seed for spec in specs), specs[0].noise is not None
            groups.setdefault((seeds, noisy), []).append(run)
    return groups


def train_jobs():
    """The rules that train: their names, what each reads and writes, where its log lies, and of which runs it is.

    Runs of one job differ from those of another in what is read (another run's gradient norms), in what is written (the
    gradient noise), or in whether all seeds share it.
    """
    place, noise = "{paper}/{run}/seed-{seed}", {**RESULT_FILES, **NOISE_FILES}
    jobs = [("train", data_of, RESULT_FILES, all_but(GRAFTED | NOISY | TOGETHER))]
    jobs += [("train_grafted", grafted_from, RESULT_FILES, any_of(GRAFTED - NOISY))] if GRAFTED - NOISY else []
    jobs += [("train_noise", grafted_from, noise, any_of(NOISY))] if NOISY else []
    rules = [
        {"name": name, "reads": reads, "writes": run_outputs(files), "place": place, "runs": runs}
        for name, reads, files, runs in jobs
    ]
    for number, ((seeds, noisy), runs) in enumerate(seed_groups().items()):
        rules.append(
            {
                "name": f"train_seeds_{number}" if number else "train_seeds",
                "reads": data_of,
                "writes": run_outputs(noise if noisy else RESULT_FILES, seeds),
                "place": f"{{paper}}/{{run}}/{seeds_place(seeds)}",
                "runs": any_of(runs),
            }
        )
    return rules


def measure_jobs():
    """The rules that measure: their names, what each measures and writes, where its log lies, and of which runs it is.

    At a small scale a job's start takes longer than a measure, and all measures share one. Where the seeds of a run
    are trained in one job, one measures them.
    """
    measures = CONFIG["measures"]
    if not measures:
        return []
    jobs = {"measure": measures} if MEASURING["together"] else {f"measure_{name}": [name] for name in measures}
    place, folder = "{paper}/{run}/seed-{seed}", MEASURE_FOLDER
    rules = [
        {
            "name": name,
            "measures": own,
            "writes": run_outputs({measure: f"{measure}.json" for measure in own}, folder=folder),
            "place": place,
            "runs": all_but(TOGETHER),
        }
        for name, own in jobs.items()
    ]
    for number, ((seeds, _), runs) in enumerate(seed_groups().items()):
        rules.append(
            {
                "name": f"measure_seeds_{number}" if number else "measure_seeds",
                "measures": measures,
                "writes": run_outputs({measure: f"{measure}.json" for measure in measures}, seeds, folder),
                "place": f"{{paper}}/{{run}}/{seeds_place(seeds)}",
                "runs": any_of(runs),
            }
        )
    return rules


def run_outputs(files, seeds=None, folder=RUN_FOLDER):
    """Files in a run's folder, or in those of these seeds, by name."""
    if seeds is None:
        return {name: f"{folder}/{file}" for name, file in files.items()}
    folders = [folder.replace("{seed}", str(seed)) for seed in seeds]
    return {name: [f"{own}/{file}" for own in folders] for name, file in files.items()}


# Jobs of this machine share a warm worker, and how far they all are is told.
if workflow.is_main_process:
    offer(CONFIG["warm"])
    show_progress(workflow, CONFIG)
