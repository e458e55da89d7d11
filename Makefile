# Every verb sets up what it needs; CI calls the same ones.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
SETUP  := pyproject.toml constraints.txt
# Beam 2.77 needs older packages than the other tests, so its tests have an environment of their own.
BEAM   := .venv-beam
# Warnings of the tools about their own future are off: they are no news about this project.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Images often forbid bytecode. Then every process would compile numba, pandas and pyspark again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

# pip compiles no bytecode (--no-compile), since most modules are never imported. This compiles what an embed run
# imports, so that no run has to.
COMPILE := import lakevec.jobs.embedding.execution, pyspark.worker; from numba.core.registry import cpu_target; \
	cpu_target.typing_context.refresh(); cpu_target.target_context.refresh()

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format configuration docs benchmark faults matrix airflow beam dist clean

help: ## show these verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(VENV)/.dev ## everything for development, into .venv

demo: $(VENV)/.demo ## distil, embed and search real text in ./demo
	$(BIN)/lakevec demo

# Test processes share the cores: torch's threads, which wait for each other in a loop, would take them.
test: $(VENV)/.dev $(VENV)/.classes $(BEAM)/.done ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 --durations-min=1
	$(BEAM)/bin/python -m pytest -c tests/beam/pytest.ini tests/beam lakevec/beam --durations=3 --durations-min=1

check: $(VENV)/.dev ## style, lint, types and documentation, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MKDOCS)

format: $(VENV)/.dev ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

configuration: $(VENV)/.dev ## docs/configuration.md and conf/*.yaml from the settings
	$(BIN)/python -m lakevec.jobs.reference

docs: $(VENV)/.dev ## the documentation as a site, into ./site
	$(MKDOCS)

benchmark: $(VENV)/.dev ## kernel and job beside their peers, into ./bench; options as BENCHMARK="..."
	test -d demo/model || $(BIN)/lakevec demo
	$(BIN)/lakevec benchmark --model demo/model --output bench $(BENCHMARK)

matrix: $(VENV)/.dev ## a short suite on every Spark 4 and Python at hand, ten minutes; options as MATRIX="..."
	$(BIN)/python -m tests.support.matrix $(MATRIX)

faults: $(VENV)/.dev ## kill the job in every way and compare every row, half an hour; options as FAULTS="..."
	$(BIN)/python -m tests.faults $(FAULTS)

airflow: $(VENV)/.dev ## the example DAG under a real Airflow, in an environment of its own, minutes
	test -d demo/model || $(BIN)/lakevec demo
	$(BIN)/python -m tests.support.airflow

beam: $(VENV)/.dev $(BEAM)/.done ## the tests of Apache Beam alone, one minute
	$(BEAM)/bin/python -m pytest -c tests/beam/pytest.ini tests/beam lakevec/beam

dist: $(VENV)/.dev ## a wheel, and the same as lakevec.zip for --py-files
	$(BIN)/python -m build --wheel --outdir dist .
	cp dist/lakevec-*.whl dist/lakevec.zip

clean: ## remove all that the verbs made
	rm -rf $(VENV) $(BEAM) .venv-matrix .venv-connect .venv-airflow dist demo bench site .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "lakevec needs Python 3.11 or later; give it as: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

# Spark's classes as the tests' many short runs load them.
$(VENV)/.classes: $(VENV)/.dev
	$(BIN)/python -m tests.support.short_java
	@touch $@

$(VENV)/.demo: $(SETUP) | $(BIN)/python
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[demo]'
	$(BIN)/python -c "$(COMPILE)"
	@touch $@

$(BEAM)/.done: pyproject.toml tests/beam/constraints.txt
	$(PYTHON) -m venv --without-pip $(BEAM)
	$(PYTHON) -m pip --python $(BEAM)/bin/python --disable-pip-version-check install --quiet --no-compile \
		-c tests/beam/constraints.txt -e '.[beam,chunk]' pytest
	@touch $@

$(VENV)/.dev: $(SETUP) | $(BIN)/python
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -c "$(COMPILE)"
	@touch $@ $(VENV)/.demo
