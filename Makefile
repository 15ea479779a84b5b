# From a bare clone: `make demo`, `make test`, `make ui`. Needs Python 3.10 or newer and a package registry.
#   PYTHON          the Python that makes .venv (python3)
#   COMFYUI_PATH    a ComfyUI to use instead of the pinned one in .comfyui
#   COMFYUI_PYTHON  its Python, used as it is instead of .venv; must have requirements.txt and requirements-dev.txt
#   HSPACE_REQUIRE_ALL_TIERS=1  a test left out for want of Chromium or ComfyUI is a failure, as in .ci/run

PYTHON ?= python3
RUN := $(or $(COMFYUI_PYTHON),.venv/bin/python)

help:
	@echo "make demo     queue every example workflow on a real ComfyUI, pictures go to output/"
	@echo "make ui       start ComfyUI with this pack in it, for the browser"
	@echo "make test     lint, types, and all tests; says at its end what this machine cannot test"
	@echo "make test-slow the oldest ComfyUI, full-size models, campaigns of faults and hostile files: hours, before a release"
	@echo "make bench    the speed table, docs/benchmarks.md: an hour"
	@echo "make gpu      on a machine with a card: the tests that concern it, and what edits take; a report to paste"
	@echo "make measure  what components mean: docs/semantics.md, a quarter of an hour"
	@echo "make lint     lint and types alone"
	@echo "make clean    remove the installation: .venv, and .comfyui with what was saved in it, .comfyui-versions"

install:
	@$(PYTHON) -m tools.install

demo: install
	@$(RUN) -m tools.demo

ui: install
	@$(RUN) -m tools.ui

lint: install
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy

test: lint
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

measure: install
	@$(RUN) -m pytest -s tests/benchmarks/semantics.py

test-slow: install
	@$(RUN) -m tools.versions
	@$(RUN) -m pytest -s tests/slow/full_size.py
	@$(RUN) -m tests.slow.faults
	@$(RUN) -m pytest -s tests/slow/captures.py
	@FUZZ_INPUTS=120000 $(RUN) -m pytest -s tests/robustness/test_fuzz.py tests/robustness/test_hostile.py tests/robustness/test_names.py

bench: install
	@$(RUN) -m pytest -s tests/benchmarks/scale.py tests/benchmarks/jacobian.py -k "not (mask or strength or meaning)"
	@$(RUN) -m pytest -s tests/benchmarks/speed.py

gpu: install
	@$(RUN) -m tools.gpu

clean:
	rm -rf .venv .comfyui .comfyui-versions .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help install demo ui lint test test-slow bench measure gpu clean
