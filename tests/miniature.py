"""Miniature projects for the tests of the workflow, and Snakemake on them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import yaml
from conftest import run

# One table whose rows train in a second: 32 images in blocks of 64/4 and 16/4, a few steps, and nothing is measured.
TINY = {
    "scale": "tiny", "papers": ["geiping2022"], "evaluations": 3, "measures": [],
    "scales": {"tiny": {
        "description": "for tests", "seeds": [0, 1], "seeds_per_job": None, "measures_share_a_job": True,
        "datasets": {"*": "digits"}, "models": {"*": "resnet_mini"}, "tables": {"geiping2022": ["main"]},
        "time_divisor": 1000, "micro_batch_divisor": 2, "lr_factor": 1, "augmentation": {"crop_padding": 1, "flip": False},
    }},
}  # fmt: skip
# One run of everything: penalties, grafted norms, gradient noise, a grid, every measure and landscape.
WORLD = {
    **{key: value for key, value in TINY.items() if key != "measures"},
    "papers": ["geiping2022", "novack2023", "iyer2023", "simsekli2019"], "scales": {"tiny": {
        **TINY["scales"]["tiny"], "time_divisor": 200,
        "tables": {"geiping2022": ["main"], "novack2023": ["grafting"], "iyer2023": ["explore"],
                   "simsekli2019": ["mnist", "iterations"]},
        "grids": {"simsekli2019": {"mnist": {"depth": [2], "width": [4, 8], "loss": ["linear_hinge"]}}},
        "skip": {
            "geiping2022": ["fb-long", "fb-practice"],
            "novack2023": ["resnet18-cifar10", "resnet18-cifar100", "vgg16-cifar100", "vgg16-cifar10.iter-graft",
                           "vgg16-cifar10.ngd"],
            "simsekli2019": ["alexnet-cifar10-cross_entropy-ch64", "alexnet-cifar10-linear_hinge-ch64",
                             "mnist-cross_entropy-d4-w64"],
        },
        "rules_of": {
            "novack2023": {"models": {"*": "fc_d2_w4"}, "time_divisor": 5000, "micro_batch_divisor": 32},
            "simsekli2019": {"models": {"*": "same"}, "time_divisor": 2000, "micro_batch_divisor": 6.25},
        },
        "measuring": {
            "keskar": {"steps": 2, "batch": 16}, "flatness": {"directions": 2, "first": 50}, "fisher": {"first": 10},
            "hessian": {"products": 5, "probes": 2, "first": 50}, "gradient_noise": {"micro_batch": 16},
            "tail_index": {"micro_batch": 16},
            "landscape": {"line_points": 5, "line_chunks": 1, "plane_points": 3, "plane_chunks": 2, "images": 128},
        },
    }},
}  # fmt: skip
OVERLAY = ["--configfile", "tiny.yaml"]
# Answers each line, a JSON list of a folder, arguments and a file for the output, with the exit code of a Snakemake
# that has these. Snakemake is imported once; the rules and the package are read anew from the folder.
SERVER = """
import json, os, sys
from snakemake.cli import main
for line in sys.stdin:
    folder, arguments, output = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = folder
        opened = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, 1), os.dup2(opened, 2)
        main(arguments)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def snakemake(folder: Path, *arguments, check: bool = True) -> subprocess.CompletedProcess:
    """Run Snakemake in a project."""
    return run(["snakemake", "--cores", 2, *arguments], folder, check)


@cache
def _server() -> subprocess.Popen:
    """Start the process that makes dry runs; it ends with this one, whose pipe it reads."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", SERVER]
    return subprocess.Popen(command, cwd="/", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def dry_run(folder: Path, *arguments, check: bool = True) -> tuple[int, str]:
    """Return the exit code and the output of `snakemake -n`."""
    server, output = _server(), folder / ".dry_run"
    words = ["-n", *map(str, arguments)]
    print(json.dumps([str(folder), words, str(output)]), file=server.stdin, flush=True)
    code, text = int(server.stdout.readline()), output.read_text()
    assert code == 0 or not check, text
    return code, text


def planned_jobs(folder: Path, *arguments) -> list[dict]:
    """Return the jobs that a dry run would start, targets left out: rule, wildcards and resources of each."""
    _, text = dry_run(folder, *arguments)
    blocks = re.findall(r"^rule (\w+):\n((?:    .*\n)*)", text, re.MULTILINE)
    return [{"rule": rule, "wildcards": _pairs(lines, "wildcards"), "resources": _pairs(lines, "resources")}
            for rule, lines in blocks if "    output: " in lines]  # fmt: skip


def _pairs(lines: str, key: str) -> dict[str, str]:
    found = re.search(rf"^    {key}: (.*)$", lines, re.MULTILINE)
    return dict(part.split("=", 1) for part in found[1].split(", ")) if found else {}


def planned(folder: Path, *arguments) -> dict[str, int]:
    """Return how many jobs of each rule a dry run would start, targets left out."""
    return dict(Counter(job["rule"] for job in planned_jobs(folder, *arguments)))


def write_config(folder: Path, name: str, config: dict) -> list[str]:
    """Write a configuration into a project; returns the option that lays it over config.yaml."""
    (folder / name).write_text(yaml.safe_dump(config))
    return ["--configfile", name]


def copied(project: Path, folder: Path) -> Path:
    """Copy a project with its results, as new as they are, for a test that changes them."""
    return shutil.copytree(project, folder, symlinks=True)
