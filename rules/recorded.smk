# What there is of records, for `from: records`.


def record_of(spec):
    """The record of a run."""
    return CONFIG["recorded"][spec.paper][spec.run][spec.seed][0]


def has(spec, part):
    """Whether a run's record has a log of the gradient noise, or points of a landscape."""
    return part in CONFIG["recorded"][spec.paper][spec.run][spec.seed][1]


def same_results():
    """The digest of the list of code that gave the same results as today's, if there is one."""
    file = Path(workflow.basedir, ROOT, SAME_RESULTS)
    return sha256_of(file) if file.exists() else None


def records_of(wildcards):
    """The records of every run of a paper."""
    return [record_of(spec) for spec in RUNS.values() if spec.paper == wildcards.paper]
