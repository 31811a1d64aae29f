# Every target sets up what it needs: .venv is the light runtime (no torch), .venv-dev adds export and the tools.
# Python 3.11 or newer: `make demo PYTHON=python3.12` names another than python3.
PYTHON ?= python3
RUN := .venv/bin
DEV := .venv-dev/bin
GPU := .venv-gpu/bin
PIP := -m pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0
FOLDERS := export engine runtime cli serve toyworld
TYPES := build/types/sd2rt

.PHONY: demo test test-slow test-gpu check format bench bench-peers clean

demo: .venv/ready
	$(RUN)/sd2rt info
	$(RUN)/sd2rt generate "a large red sphere on the left and a small blue cube on the right, gray floor" --seed 7 --out out/demo-1.png --force
	$(RUN)/sd2rt generate "a small yellow cone on the left and a large purple cylinder on the right, pink floor" --seed 7 --out out/demo-2.png --force
	$(RUN)/sd2rt generate "a large white cube, brown floor" --seed 7 --out out/demo-3.png --force

# worksteal: with loadfile xdist 3.8 hangs for good once a worker dies, and its last worker is alone with the last file
test: .venv-dev/ready
	OMP_NUM_THREADS=1 $(DEV)/python -m pytest -n 2 --dist worksteal

test-slow: .venv-dev/ready
	$(DEV)/python -m pytest -m slow -o faulthandler_timeout=3600

# engine/gpu.py needs Python alone, so that a machine without a GPU says so before anything is installed
test-gpu:
	@$(PYTHON) -c "import sys; sys.path.append('engine'); import gpu; found = gpu.find_gpu(); sys.exit(f'make test-gpu: {found}' if isinstance(found, str) else 0)"
	@$(MAKE) --no-print-directory .venv-gpu/ready
	$(GPU)/python -m pytest -m gpu tests/gpu

check: .venv-dev/ready $(TYPES)
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	MYPYPATH=build/types $(DEV)/mypy --namespace-packages --explicit-package-bases $(FOLDERS:%=-p sd2rt.%)

format: .venv-dev/ready
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

bench: .venv-dev/ready
	$(DEV)/python -m benchmarks

# installs every peer in a venv of its own (.venv-peers-*); goes on where it was cut off
bench-peers: .venv-dev/ready
	$(DEV)/python -m benchmarks peers
	$(DEV)/python -m benchmarks report

clean:
	rm -rf .venv .venv-dev .venv-gpu .venv-peers-* build out sd2rt.egg-info

.venv/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(RUN)/python $(PIP) -e ".[cpu]"
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv-dev
	$(DEV)/python $(PIP) $(TORCH)
	$(DEV)/python $(PIP) -e ".[cpu,openvino,export,tensorrt-rtx,serve,ray,bench,dev]"
	touch $@

.venv-gpu/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv-gpu
	$(GPU)/python $(PIP) -e ".[gpu,tensorrt,tensorrt-rtx]" "pytest>=9.0"
	touch $@

# mypy does not follow editable installs: it gets the packages under their import names
$(TYPES): pyproject.toml
	mkdir -p $@
	for folder in $(FOLDERS); do ln -sfn "$(CURDIR)/$$folder" $@/$$folder; done
	touch $@
