# make        environment, then the default pipeline; ends by printing the verdicts
# make test   environment, then the tests; make test-slow those that take minutes, make test-browser those in a browser,
#             make test-slurm those on a Slurm cluster, which they start on this machine
# make env    only the environment, in .venv
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin

.PHONY: run env test test-slow test-browser test-slurm check format bench bench-gpu records readme lock clean

run: env
	$(BIN)/snakemake --cores $(CORES) --logger rich

env: .venv/made

.venv/made: envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is not of 3.11 to 3.13; name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: env
	$(BIN)/python -m pytest -n 2 -m slow

# Installs Chromium where it is missing (Debian; as root, or with sudo).
test-browser: env
	.ci/install_browser
	$(BIN)/python -m pytest -m browser

# Installs Slurm if it is missing (Debian, as root); its daemons end with the tests, whatever happens.
test-slurm: env
	$(BIN)/python -m pytest -m slurm

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# Times each question side by side, about half an hour; tables go to results/benchmarks.
bench: env
	$(BIN)/python benchmarks/devices.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/product_distance.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/options_cpu.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/measures.py
	$(BIN)/python benchmarks/tail_index.py

# On a machine with a GPU; see benchmarks/step_gpu.py for parts of it.
bench-gpu: env
	$(BIN)/python -m pytest -vv tests/test_gpu.py
	$(BIN)/python benchmarks/step_gpu.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/measures.py --images 50000
	$(BIN)/python benchmarks/devices.py

# The tables and figures of every result that the repository carries, from its records, without training.
records: env
	$(BIN)/snakemake --cores $(CORES) --logger rich --config from=records
	$(BIN)/snakemake --cores $(CORES) --logger rich --configfile config/small.yaml --config from=records
	$(BIN)/snakemake --cores $(CORES) --logger rich --configfile config/midi.yaml --config from=records
	$(BIN)/snakemake --cores $(CORES) --logger rich --configfile config/paper.yaml config/cpu.yaml --config from=records

# Puts the tables of the records, and of benchmarks measured here, into README.md and docs/.
readme: records
	$(BIN)/python workflow_scripts/update_readme.py

# Needs uv. Pins every dependency for all platforms and Pythons, without naming a host; conda and containers follow.
lock:
	uv pip compile envs/requirements.in --universal --python-version 3.11 --output-file envs/requirements.lock \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links
	$(PYTHON) envs/write_environments.py

# Removes what was generated.
clean:
	rm -rf results/* .snakemake
