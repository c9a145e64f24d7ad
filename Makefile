# make demo    train GRAM and the deterministic model of its size on 4×4 Sudoku and compare them
# make test    run the tests; `make slow` runs those that take minutes, `make test-cuda` those of CUDA
# make docs    the docs site, its notebooks run afresh, in build/docs
# The first call makes .venv and installs into it. Another interpreter: make demo PYTHON=python3.12
# Options go through ARGS: make demo ARGS="--seed 1", make test ARGS="-k sudoku -x"

PYTHON ?= python3
ARGS ?=
JOBS ?= 2

PY := .venv/bin/python
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install -qq -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
CORE := .venv/.installed-core
TEST := .venv/.installed-test
DOCS := .venv/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help demo test slow test-cuda docs lint types wheel clean

help:
	@sed -n 's/^# //p' Makefile | head -5

demo: $(CORE)
	@$(PY) examples/sudoku_svi.py --compare $(ARGS)

test: $(TEST)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) $(ARGS)

slow: $(TEST)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) -m slow $(ARGS)

# at most 5 minutes of a GPU
test-cuda: $(TEST)
	@$(PY) -m pytest -m cuda $(ARGS)

# without a network; a warning, a broken link or a cell that fails ends it
docs: $(DOCS)
	@$(PY) -m sphinx -W --keep-going -q -b html docs build/docs $(ARGS)
	@echo 'the docs are in build/docs/index.html'

lint: $(TEST)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(TEST)
	@$(PY) -m mypy

# sdist, wheel from that sdist, installed into an empty environment that borrows only the dependencies of .venv
wheel: $(TEST)
	@rm -rf build/wheel && mkdir -p build/wheel
	@$(PY) -m build --no-isolation --outdir build/wheel . > build/wheel/log.txt 2>&1 || { cat build/wheel/log.txt; exit 1; }
	@$(PY) -m zipfile -l build/wheel/*.whl > build/wheel/files.txt
	@for f in models/gram.py guides/amortized.py py.typed; do \
	  grep -q "^gram_ppl/$$f " build/wheel/files.txt || { echo "gram_ppl/$$f is not in the wheel"; exit 1; }; done
	@$(PY) -m venv build/wheel/venv
	@build/wheel/venv/bin/python -m pip install -qq --no-index --no-deps build/wheel/*.whl
	@purelib='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(PY) -c "$$purelib" > "$$(build/wheel/venv/bin/python -c "$$purelib")/dependencies.pth"
	@cd build/wheel && venv/bin/python -I -c 'import sys, gram_ppl, gram_ppl.guides, gram_ppl.models; \
	  assert all(m.__file__.startswith(sys.prefix) for n, m in list(sys.modules.items()) if n.startswith("gram_ppl")); \
	  print("wheel: gram_ppl imports from", gram_ppl.__file__)'

# leaves .venv and runs alone
clean:
	@rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo 'Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=python3.12.' >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

# torch comes first and by its exact version, so that pip takes a local build of it where there is one.
$(CORE): pyproject.toml constraints.txt | .venv/bin/pip
	@echo 'installing gram_ppl and its dependencies into .venv (once, some minutes)'
	@$(PIP) '$(TORCH)'
	@$(PIP) -e .
	@touch $@

$(TEST): pyproject.toml constraints.txt | .venv/bin/pip
	@echo 'installing gram_ppl, its dependencies and the test tools into .venv (once, some minutes)'
	@$(PIP) '$(TORCH)'
	@$(PIP) -e '.[test]'
	@touch $(CORE) $@

$(DOCS): pyproject.toml constraints.txt | .venv/bin/pip
	@echo 'installing gram_ppl, its dependencies and what builds the docs into .venv (once, some minutes)'
	@$(PIP) '$(TORCH)'
	@$(PIP) -e '.[docs]'
	@touch $(CORE) $@
