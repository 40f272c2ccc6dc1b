# splade-os. `make help` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
# cpu: a torch without CUDA (200 MB instead of 3 GB), from PyTorch's own index through uv.
TORCH_BACKEND ?=
# processes of `make test`: most of its time is spent waiting for nodes and processes
WORKERS ?= 2

# the certificates that this machine trusts, not only those that uv brings
export UV_SYSTEM_CERTS := 1

BIN := $(VENV)/bin
PY  := $(BIN)/python
UV  := $(BIN)/uv pip install --python $(PY) -c constraints.txt $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))

.PHONY: help demo test test-full test-lowest test-matrix test-integrations test-faults soak test-plugins fuzz lint bench starter env env-dev clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: env  ## start a local cluster, ingest real text, search it in three modes
	@$(BIN)/splade-os demo

test: env-dev lint  ## every test, against real OpenSearch and Elasticsearch nodes
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Constraints pin the newest versions that were tried, so they take no part.
LOWEST_CORE := tests/encoding/test_light.py tests/encoding/test_options.py \
	tests/encoding/test_onnx.py tests/search/test_model_of_index.py tests/ingest/test_sources.py \
	tests/training/test_bases.py tests/training/test_card.py tests/training/test_losses.py \
	tests/training/test_output.py tests/training/test_resume.py::test_same_to_the_bit \
	tests/evaluation/test_memory.py tests/evaluation/test_pairs.py tests/evaluation/test_report.py

test-lowest: env-dev  ## a short core of the tests on the lowest versions that pyproject.toml allows
	@$(BIN)/uv venv -q --clear --python $(PY) .venv-lowest
	@$(BIN)/uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) -e '.[dev]'
	@.venv-lowest/bin/python -m pytest $(LOWEST_CORE)

test-matrix: env-dev  ## the tests of engines, search, adoption and layouts on six versions of the servers
	@SPLADE_OS_TEST_MATRIX=1 $(PY) -m pytest tests/engines tests/search tests/online/test_adopt.py tests/ingest/test_layout.py

# Frameworks are heavy, and their tests bring pytest plugins: an environment of its own.
test-integrations: env-dev  ## every integration with its framework installed, newest versions (LOWEST=1: the lowest)
	@$(BIN)/uv venv -q --clear --python $(PY) .venv-integrations
	@$(BIN)/uv pip install -q --python .venv-integrations/bin/python $(if $(LOWEST),--resolution lowest-direct) $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) -e '.[test-integrations]'
	@OMP_NUM_THREADS=1 .venv-integrations/bin/python -m pytest tests/integrations -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function

test-full: env-dev  ## make test without its bound of 20 minutes: what is left out of it, and more of each
	@SPLADE_OS_TEST_FULL=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-faults: env-dev  ## kills, lost answers and dead nodes, many rounds of each
	@SPLADE_OS_TEST_FULL=1 $(PY) -m pytest tests/faults tests/distributed

soak: env-dev  ## random searches, loads, kills, restarts and swaps, against arithmetic and a model: 15 minutes each (SPLADE_OS_SOAK_SECONDS)
	@SPLADE_OS_SOAK_SECONDS=$${SPLADE_OS_SOAK_SECONDS:-900} $(PY) -m pytest tests/soak tests/ingest/test_histories.py -s --timeout 0

test-plugins: env-dev  ## query encoding in the engine, on OpenSearch with its plugins (570 MB)
	@SPLADE_OS_TEST_PLUGINS=1 $(PY) -m pytest tests/export

fuzz: env-dev  ## every loader on 20,000 damaged inputs (SPLADE_OS_FUZZ), 10 minutes each at most (SPLADE_OS_FUZZ_SECONDS)
	@SPLADE_OS_FUZZ=$${SPLADE_OS_FUZZ:-20000} SPLADE_OS_FUZZ_SECONDS=$${SPLADE_OS_FUZZ_SECONDS:-600} $(PY) -m pytest tests/fuzz --timeout 0

lint: env-dev  ## ruff, mypy, import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@rm -rf build && $(BIN)/uv pip install -q --python $(PY) --no-deps --no-build-isolation --offline --target build/tree .
	@MYPYPATH=build/tree $(BIN)/mypy -p splade_os
	@cd build/tree && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../pyproject.toml

bench: env-dev  ## every benchmark; a table on stderr, one JSON object each on stdout
	@for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

starter: env-dev  ## train and build the starter model that the package ships (see docs/starter.md)
	@test -n "$(DATA)$(TRAINED)" || { echo "make starter DATA=FOLDER trains it (an hour on 2 cores); TRAINED=FOLDER takes what was trained." >&2; exit 1; }
	@rm -rf build/untrained build/starter
ifndef TRAINED
	@$(PY) -m splade_os.export.starter build/untrained
	@$(BIN)/splade-os train starter-cpu --base build/untrained --data $(DATA) --out build/trained --resume
endif
	@$(PY) -m splade_os.export.starter build/starter --trained $(or $(TRAINED),build/trained)
	@rm -rf splade_os/models/starter && mv build/starter splade_os/models/starter

env: $(VENV)/.demo
env-dev: $(VENV)/.dev

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "splade-os needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making the environment $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -q -c constraints.txt uv

$(VENV)/.demo: pyproject.toml constraints.txt | $(PY)
	@echo "Installing splade-os with ONNX Runtime and a Java runtime ..." >&2
	@$(UV) -e '.[demo]' && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	@echo "Installing splade-os with everything that its tests need (about 3 GB; 6 GB on disk) ..." >&2
	@$(UV) -e '.[dev]' && touch $@ $(VENV)/.demo

clean:  ## remove the environment and build outputs (caches and clusters stay)
	rm -rf $(VENV) .venv-lowest .venv-integrations build dist *.egg-info
