# make setup | demo | test | test-kernels | check | benchmark        (make demo RAW=folder uses your own audio)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RAW ?=

# The checkout's own audiotools/ and models/ must not shadow other packages of those names.
export PYTHONSAFEPATH = 1

.PHONY: setup demo test test-kernels slow check benchmark clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh "$(RAW)"

# A file stays on one core, for its tests share what they have made. A worker that dies ends the run: with another in
# its place, pytest-xdist waits for ever.
PYTEST := $(BIN)/pytest --numprocesses auto --dist loadfile --max-worker-restart=0

# One thread each: two processes of two threads on two cores wait for each other most of the time.
test test-kernels: export OMP_NUM_THREADS := 1

test: setup
	$(PYTEST)

# Finds tests that hang on how this processor rounds.
test-kernels: setup
	$(BIN)/python tests/kit/kernels.py $(PYTEST)

slow: setup
	$(BIN)/pytest -m slow

# mypy finds tonemill.* through a link, for the checkout may have any name.
check: setup
	mkdir -p .cache/typing && ln -sfn ../.. .cache/typing/tonemill
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmark: setup
	for name in startup resampling shard shard_parts loader wavegan report evaluate; do \
	    env -u PYTHONSAFEPATH $(BIN)/python -m benchmarks.$$name || exit 1; \
	done

clean:
	rm -rf $(VENV) .cache build *.egg-info
