"""The conda environment, the containers and what is installed have the versions of the lock file, and these alone."""

import os
import platform
import re
import runpy
import tomllib
from importlib.metadata import version

import pytest
import yaml
from conftest import ROOT, copy_with, run
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ENVS = ROOT / "envs"


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


LOCK = requirements((ENVS / "requirements.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What is imported by users, and what the pipeline needs beside it.
ASKED = list(map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pipeline"]]))
SUPPORTED = SpecifierSet(PROJECT["requires-python"])


def test_every_environment_is_what_the_lock_file_makes():
    environments = runpy.run_path(str(ENVS / "write_environments.py"))["environments"]
    made = environments((ENVS / "requirements.lock").read_text())
    assert set(made) == {"whysgd.yaml", "Dockerfile", "whysgd.def"}
    for name, text in made.items():
        assert (ENVS / name).read_text() == text, f"envs/{name}: run `make lock`"


def test_conda_has_the_pins_of_the_lock_file():
    environment = yaml.safe_load((ENVS / "whysgd.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert list(map(str, map(Requirement, pip))) == list(map(str, LOCK))
    # Snakemake installs a copy of the file from another folder: it must not name a file beside it.
    assert not [entry for entry in pip if entry.startswith("-")]


def test_all_recipes_have_one_python_that_the_project_allows():
    conda = re.search(r"python=([\d.]+)", (ENVS / "whysgd.yaml").read_text())[1]
    docker = re.search(r"^FROM python:([\d.]+)-", (ENVS / "Dockerfile").read_text(), re.MULTILINE)[1]
    apptainer = re.search(r"^From: python:([\d.]+)-", (ENVS / "whysgd.def").read_text(), re.MULTILINE)[1]
    assert conda == docker == apptainer
    assert Version(conda) in SUPPORTED


def test_this_python_is_one_that_the_project_supports():
    assert Version(platform.python_version()) in SUPPORTED


def test_containers_install_the_lock_file_and_no_other_package_of_python():
    for name in ("Dockerfile", "whysgd.def"):
        installs = re.findall(r"pip install (.*)", (ENVS / name).read_text())
        assert len(installs) == 1
        assert re.fullmatch(r"--no-cache-dir -r /\w+/requirements\.lock", installs[0])
        assert "envs/requirements.lock" in (ENVS / name).read_text()


def test_the_lock_file_pins_all_that_is_asked_for_and_nothing_else_is_asked_for():
    pins = {}
    for requirement in LOCK:
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    asked = requirements((ENVS / "requirements.in").read_text())
    for requirement in (*asked, *ASKED):
        for pin in pins[canonicalize_name(requirement.name)]:
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert Version(exact.version) in requirement.specifier, f"{requirement} against {pin}"
    # What runs is part of what is installed for the tests.
    names = {canonicalize_name(requirement.name) for requirement in asked}
    assert {canonicalize_name(one.name) for one in ASKED} <= names


def test_these_tests_run_with_the_versions_of_the_lock_file():
    different = {
        requirement.name: (version(requirement.name), str(requirement.specifier))
        for requirement in LOCK
        if (requirement.marker is None or requirement.marker.evaluate())
        and version(requirement.name) not in requirement.specifier
    }
    assert not different, "installed, and pinned; `make env` installs the pinned"


APPTAINER = """#!/bin/sh
# Says its version, or that it was called and then does what it is to do inside.
[ "$1" = --version ] && echo "apptainer version 1.4.0" && exit
echo "$@" >> "$CALLS"
while [ "$1" != sh ] && [ "$1" != bash ] && [ "$1" != /bin/bash ]; do shift; done
exec "$@"
"""


@pytest.mark.workflow
def test_jobs_run_in_the_container_that_the_configuration_names(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("apptainer", "singularity"):
        (tools / name).write_text(APPTAINER)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    folder = copy_with(tmp_path / "project", {})
    (folder / "whysgd.sif").write_text("")
    target, options = "results/data/digits/manifest.json", ["--sdm", "apptainer", "--config", "container=whysgd.sif"]
    run(["snakemake", target, "--cores", 1, *options], folder)
    assert (folder / target).is_file()
    (call,) = [line for line in (tmp_path / "calls").read_text().splitlines() if "build-dataset" in line]
    assert "whysgd.sif" in call
