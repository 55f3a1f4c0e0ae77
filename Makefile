# Everything the README tells a reader to type. Targets that need .venv make it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Jupyter refuses to run as root unless told; in a container there is nobody else.
LAB_AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# As distilkit/__init__.py sets them, for kernels and tests that load torch before distilkit
export GOMP_SPINCOUNT ?= 300
export ORT_DISABLE_TELEMETRY ?= 1

# One worker more than cores: browsers, kernels and other processes are waited for
WORKERS = $(shell $(BIN)/python -c "import os; print(1 + os.cpu_count())")

.PHONY: figures report study test quick check soak lab bench-panels gpu-check clean
.DEFAULT_GOAL := figures

figures: $(VENV)/ready          ## the notebook sequence, headless -> figures/tiny/
	$(BIN)/python -m distilkit figures

report: $(VENV)/ready           ## runs and figures as one page -> figures/tiny/report.html
	$(BIN)/python -m distilkit report

study: $(VENV)/ready data/cache/tiny-3600  ## what the teacher is worth -> data/results/study.csv; hours, resumable
	$(BIN)/python -m distilkit study --scale tiny --steps 600 --batch-size 16 --micro-batch-size 16 \
		--precision fp32 --teacher-cache --glue data/cache/tiny-3600/glue --epochs 1 \
		--finetuning-batch-size 4 --finetuning-learning-rate 1e-4 --out data/results/study.csv \
		--arms teacher distilled copied_soft_targets copied_cosine mlm_equal_steps as_cut \
		random_init random_soft_targets random_cosine random_mlm scratch \
		random_without_cosine random_weights_5_2_1

data/cache/tiny-3600: | $(VENV)/ready
	$(BIN)/python data/tiny/make/world.py --examples 3600 --out $@

test: $(VENV)/tested check      ## everything CI runs
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 12

quick: $(VENV)/tested           ## the unit tests: 75 seconds on 2 cores, in the middle of a change
	$(BIN)/python -m pytest -q -n auto --dist worksteal --ignore tests/e2e \
		-m "not (slow or processes or notebooks or browser or hub or faults)"

check: $(VENV)/tested           ## lint, format, acyclic imports
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tests/check_imports.py

lab: $(VENV)/ready              ## JupyterLab on the notebooks
	$(BIN)/python -m jupyterlab $(LAB_AS_ROOT) notebooks/01_temperature.ipynb

bench-panels: $(VENV)/tested    ## from key press to picture, in a browser
	PYTHONPATH=tests/helpers $(BIN)/python tests/measurements/bench_panels.py

gpu-check: $(VENV)/ready       ## what a GPU makes of it, at most 9 minutes -> gpu_check.json
	$(BIN)/python tests/measurements/gpu_check.py

soak: $(VENV)/tested            ## the long form: 30 kills, the sequence 20 times and from the cache
	$(BIN)/python -m pytest --soak tests/e2e/test_soak.py tests/e2e/test_hub_scales.py

clean:                          ## runs, caches, figures; the environment stays
	rm -rf runs data/cache figures/tiny figures/small figures/base

$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/tested: $(VENV)/ready tests/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r tests/requirements.txt
	touch $@
