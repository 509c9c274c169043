# `make demo` and `make test` set everything up by themselves: .venv, installed once through constraints.txt.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
DEMO := runs/demo
# touched when the installation is complete, hence made again when it was interrupted or what it installs has changed
INSTALLED := .venv/.installed

.PHONY: help install demo test test-all lint format typecheck docs bench bench-gpu results results-gpu tables clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## set up .venv (every target below does it, once)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Ancestral needs Python 3.11 or newer, but none of $(CANDIDATES) is: \
	install one, or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ancestral needs Python 3.11 or newer, \
	$(PYTHON) is " + sys.version.split()[0] + ": name another with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## train on scanned digits for 3 minutes, then evaluate, sample, complete, verify and report
	rm -rf $(DEMO)
	$(BIN)/ancestral train gated-pixelcnn --data digits --out $(DEMO) --minutes 3 --set layers=6
	$(BIN)/ancestral evaluate $(DEMO)
	$(BIN)/ancestral sample $(DEMO) -n 100 --out $(DEMO)/samples.png
	$(BIN)/ancestral complete $(DEMO) --known top -n 8 --out $(DEMO)/completions.png
	$(BIN)/ancestral verify $(DEMO)
	$(BIN)/ancestral report $(DEMO)
	@echo
	@echo "Done. Look at:"
	@echo "  $(DEMO)/report.html       curves, samples, completions, where the bits are"
	@echo "  $(DEMO)/samples.png       digits drawn by the model"
	@echo "  $(DEMO)/completions.png   lower halves drawn below upper halves it never saw in training"

# pytest comes last, so that the last line says how many tests passed
test: lint typecheck docs ## check style, types and the documentation, then run the tests
	$(BIN)/pytest

test-all: lint typecheck docs ## the same with the slow tests
	$(BIN)/pytest -m ""

lint: $(INSTALLED) ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(INSTALLED) ## mend style and format where a tool can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

typecheck: $(INSTALLED) ## check types
	$(BIN)/mypy

docs: $(INSTALLED) ## build the documentation, warnings as errors: build/docs/index.html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

bench: $(INSTALLED) ## measure sampling and training, into JSON and tables
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/audio.py

bench-gpu: $(INSTALLED) ## measure CUDA graphs and compiled training on a GPU, into JSON
	$(BIN)/python benchmarks/gpu.py

results: $(INSTALLED) ## follow the recipes that a CPU follows in minutes: make results DATA=FOLDER, with NAME.npz there
	$(BIN)/python benchmarks/results.py $(if $(DATA),--data '$(DATA)')

results-gpu: $(INSTALLED) ## follow those that are for a GPU, in slices with MINUTES=9: call it again to go on
	$(BIN)/python benchmarks/results.py --gpu $(if $(DATA),--data '$(DATA)') $(if $(MINUTES),--slice-minutes $(MINUTES))

tables: $(INSTALLED) ## write the documents that are made from results/*.json
	$(BIN)/python benchmarks/models.py --table
	$(BIN)/python benchmarks/sampling.py --table
	$(BIN)/python benchmarks/audio.py --table
	$(BIN)/python benchmarks/latents.py --table
	$(BIN)/python benchmarks/compression.py --table
	$(BIN)/python benchmarks/anomaly.py --table
	$(BIN)/python benchmarks/results.py --table
	$(BIN)/python benchmarks/claims.py --table
	$(BIN)/python benchmarks/fields.py

clean: ## remove caches and build products (.venv and runs stay)
	rm -rf build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
