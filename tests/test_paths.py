"""Where results lie, and which seeds share a job."""

from pathlib import Path

import pytest

from whysgd.results import paths


@pytest.mark.parametrize(("seeds", "name"), [([4], "seeds-4"), ([0, 1, 2], "seeds-0-2"), ([9, 10], "seeds-9-10")])
def test_a_batch_has_a_name_that_says_its_seeds(seeds, name):
    assert paths.batch_name(seeds) == name
    assert paths.batch_seeds(name) == seeds


@pytest.mark.parametrize("name", ["", "seed-3", "seeds-", "seeds-a", "seeds-0-2-4", "seeds-0-2.tmp", "seeds-3-1"])
def test_other_names_are_no_batches(name):
    assert paths.batch_seeds(name) == []


# Folders that are there, seeds that are wanted, the largest batch, and the batches.
BATCHES = {
    "all share a job": ([], [0, 1, 2], None, ["seeds-0-2"]),
    "each has its own": ([], [0, 1, 2], 1, ["seeds-0", "seeds-1", "seeds-2"]),
    "at most two": ([], [0, 1, 2, 3, 4], 2, ["seeds-0-1", "seeds-2-3", "seeds-4"]),
    "gaps divide": ([], [5, 1, 2, 7], None, ["seeds-1-2", "seeds-5", "seeds-7"]),
    "only new ones": (["seeds-0-2"], [0, 1, 2, 3, 4], None, ["seeds-0-2", "seeds-3-4"]),
    "whatever the size": (["seeds-0-2"], [0, 1, 2, 3, 4], 1, ["seeds-0-2", "seeds-3", "seeds-4"]),
    "one in the middle": (["seeds-1"], [0, 1, 2, 3], None, ["seeds-0", "seeds-1", "seeds-2-3"]),
    "fewer than are there": (["seeds-0-2"], [0, 1], None, ["seeds-0-1"]),
    "the larger of two": (["seeds-0-1", "seeds-0-2", "seeds-2"], [0, 1, 2], None, ["seeds-0-2"]),
    "folders of no batch": (["seeds-x", "seed-0", "seeds-2-1"], [0, 1, 2], None, ["seeds-0-2"]),
}


@pytest.mark.parametrize(("there", "seeds", "size", "expected"), BATCHES.values(), ids=BATCHES.keys())
def test_batches_that_are_there_stay_and_only_new_seeds_are_trained(tmp_path, there, seeds, size, expected):
    for name in there:
        (tmp_path / name).mkdir()
    assert [paths.batch_name(batch) for batch in paths.seed_batches(tmp_path, seeds, size)] == expected


def test_a_run_that_was_never_trained_has_no_folder_to_look_into(tmp_path):
    assert paths.seed_batches(tmp_path / "missing", [1, 0], None) == [[0, 1]]


def test_folders_are_those_of_the_patterns_of_the_rules():
    names = {"scale": "mini", "paper": "p", "run": "r"}
    assert paths.run_folder(**names) / "seeds-0-1" == Path(paths.RUN.format(**names, seeds="seeds-0-1"))
    assert paths.measures_folder(**names, seeds=[0, 1]) == Path("results/mini/measures/p/r/seeds-0-1")
    assert paths.record_file(**names, seed=3) == Path("mini/p/r/seed-3.json")
    assert Path(paths.FRAME.format(scale="recorded/mini", paper="p", frame="runs")).is_relative_to(paths.RESULTS)
