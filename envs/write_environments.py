"""Writes the conda environment and the container recipes that have the versions of requirements.lock: `make lock`."""

from pathlib import Path

ENVS = Path(__file__).resolve().parent
# Of the conda environment and of the containers; the lock is for any from 3.11 on.
PYTHON = "3.12.12"
MADE = "# Made by `make lock` from requirements.lock; do not edit."

CONDA = """{made}
# For `snakemake --sdm conda`. The versions stand here, not in a file beside it: Snakemake installs from a copy.
channels: [conda-forge]
dependencies:
  - python={python}
  - pip
  - pip:
{pins}
"""

DOCKER = """{made}
# docker build -f envs/Dockerfile -t whysgd .
# docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD":/whysgd whysgd snakemake --cores 8
FROM python:{python}-slim-bookworm
COPY envs/requirements.lock /tmp/requirements.lock
# make and git: for the Makefile's targets and the tests; a compiler: what torch.compile calls.
RUN apt-get update \\
    && apt-get install -y --no-install-recommends gcc g++ git make \\
    && rm -rf /var/lib/apt/lists/* \\
    && python -m pip install --no-cache-dir -r /tmp/requirements.lock
# A user without an entry in passwd: Snakemake asks for a name, and caches need a place.
ENV USER=whysgd HOME=/tmp XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /whysgd
CMD ["snakemake", "--cores", "2"]
"""

APPTAINER = """{made}
# apptainer build whysgd.sif envs/whysgd.def                                        (from the root of the project)
# snakemake --cores 8 --sdm apptainer --apptainer-args --nv --config container=whysgd.sif
Bootstrap: docker
From: python:{python}-slim-bookworm

%files
    envs/requirements.lock /opt/requirements.lock

%post
    apt-get update
    apt-get install -y --no-install-recommends gcc g++ git make
    rm -rf /var/lib/apt/lists/*
    python -m pip install --no-cache-dir -r /opt/requirements.lock

%runscript
    exec "$@"
"""


def environments(lock: str) -> dict[str, str]:
    """The files of this folder that follow from the lock's text: name -> content."""
    pins = [line.strip() for line in lock.splitlines() if line.strip() and not line.startswith("#")]
    # Quoted, since a marker has quotes of the other kind, and signs that mean something in YAML.
    listed = "\n".join(f'      - "{pin}"' for pin in pins)
    values = {"made": MADE, "python": PYTHON, "pins": listed}
    recipes = {"whysgd.yaml": CONDA, "Dockerfile": DOCKER, "whysgd.def": APPTAINER}
    return {name: recipe.format(**values) for name, recipe in recipes.items()}


if __name__ == "__main__":
    for name, text in environments((ENVS / "requirements.lock").read_text(encoding="utf-8")).items():
        (ENVS / name).write_text(text, encoding="utf-8")
