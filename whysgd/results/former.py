"""Settings that older versions wrote into records, under the names that they have today."""

from collections.abc import Mapping

from whysgd.study.spec import RunSpec

# Former names of settings.
_RENAMED = {"block": "micro_batch", "macro_batch": "batch", "watch": "probe"}
# Parts of the settings that once had the keys of all names of their kind, with null for those of others.
_WITH_NULLS = ("schedule", "transform")


def todays(settings: Mapping) -> RunSpec:
    """Return the specification of a run from settings that any version wrote.

    Raises:
        ValueError: the settings are those of no run.
    """
    found = {_RENAMED.get(key, key): value for key, value in settings.items()}
    for part in _WITH_NULLS:
        if isinstance(found.get(part), Mapping):
            found[part] = {key: value for key, value in found[part].items() if value is not None}
    schedule = found.get("schedule")
    if isinstance(schedule, Mapping) and schedule.get("decay") in ("cosine", "linear") and schedule.get("warmup"):
        found["schedule"] = {"phase": "closed", **schedule}  # the only one before there was a choice
    if found.get("store"):
        # Copies were once read in the data set's order, which runs that shuffle do not see.
        found["store"] = {"shuffle_copies": bool(found.get("shuffle")), **found["store"]}
    return RunSpec.from_dict(found)
