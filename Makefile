# Everything is set up by the targets themselves: a fresh Debian machine with Python 3.11 needs nothing else.
PYTHON ?= python3
SEEDS ?= 2000
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: up down test lint unit unit-compiled wire soak check pages bench bench-instructions bench-security bench-keys bench-pipelines bench-types bench-turns bench-repair bench-join tails scale thousand paper stacks stacks-quick stacks-installed stacks-node stacks-clients compiled wheel wheel-test ops-check tools clean help

help:  ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

up: $(READY) compiled  ## Set everything up and start three nodes on this machine, in ./dyn-data
	$(BIN)/dyn up --detach

down: $(READY)  ## Stop the nodes of `make up`
	$(BIN)/dyn down

test: $(READY) tools  ## Set everything up, check the code and pass the tests: WORKERS=2 at a time, one more of those with real nodes, and a few of these one by one
	@$(MAKE) --no-print-directory --jobs --output-sync=target lint unit compiled UNIT=--left-by-compiled
	@$(MAKE) --no-print-directory unit-compiled
	@$(MAKE) --no-print-directory wire

# The parts of `test`. The first three keep the cores busy side by side. The wire tests run alone: their nodes wait for each other, and
# a node that gets no core is a node that is down.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)  ## The tests without nodes, all of them on the sources
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 600 --ignore=tests/wire --ignore=tests/stacks $(UNIT)
	$(BIN)/pytest tests/stacks/test_compatibility.py

unit-compiled: compiled  # those of the core on the compiled code, which nodes run
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 600 --compiled tests/core tests/protocol

# Two workers leave a third of two cores idle, as nodes wait for their clocks.
wire: compiled
	$(BIN)/pytest -n $$(( $(WORKERS) + 1 )) --dist worksteal --timeout 300 -m 'not soak and not serial' tests/wire tests/stacks/test_redis_py.py
	$(BIN)/pytest -m 'serial and not soak' tests/wire

soak: $(READY) tools compiled  ## The long tests: storms of a minute, 100,000 writes missed, the whole of the real input, freezes of all lengths, SEEDS=2000 storms in the simulator
	$(BIN)/pytest -m soak
	$(BIN)/python -m tests.sim.soak --seeds $(SEEDS)

check: $(READY)  ## Lint, format and types only
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

pages: $(READY)  ## Make man pages, completions and docs/compatibility.md anew from the commands
	$(BIN)/python -m dynamo_cli.pages
	$(BIN)/python -m server.manual > man/dyn-commands.7
	$(BIN)/python -m server.settings_manual > man/dyn.toml.5
	$(BIN)/python -m tests.stacks.compatibility > docs/compatibility.md

bench: $(READY) tools compiled  ## Compare with a bare redis-server, in one run, alternating: BENCH='--beside main~1' also with another revision
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq redis-server >/dev/null; } || { echo "make bench needs redis-server" >&2; exit 1; }
	$(BIN)/python -m tests.bench $(BENCH)

bench-security: $(READY) compiled  ## What the secret of the nodes, users, TLS and encryption at rest cost
	@command -v redis-benchmark >/dev/null || { echo "make bench-security needs redis-benchmark (apt-get install redis-tools)" >&2; exit 1; }
	$(BIN)/python -m tests.prices

bench-instructions: $(READY) compiled  ## Count the instructions of the processor that a SET and a GET take, with valgrind: no noise
	@command -v valgrind >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq valgrind >/dev/null; } || { echo "make bench-instructions needs valgrind" >&2; exit 1; }
	$(BIN)/python -m tests.instructions

bench-keys: $(READY) compiled  ## Compare KEYS, SCAN and other commands over a million keys with a bare redis-server, in one run
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq redis-server >/dev/null; } || { echo "make bench-keys needs redis-server" >&2; exit 1; }
	$(BIN)/python -m tests.listing_rates

bench-pipelines: $(READY) tools compiled  ## Compare long pipelines of one client with a bare redis-server, in one run, alternating
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq redis-server >/dev/null; } || { echo "make bench-pipelines needs redis-server" >&2; exit 1; }
	$(BIN)/python -m tests.pipeline_rates

bench-types: $(READY) tools compiled  ## Measure what commands on collections of 10 to 10,000 elements cost, beside a bare redis-server
	$(BIN)/python -m tests.type_prices

bench-turns: $(READY) tools compiled  ## Measure how long each command on a collection of 100,000 elements holds a node, beside a bare redis-server: TURNS='--only LREM'
	$(BIN)/python -m tests.longest_turns $(TURNS)

bench-repair: $(READY) compiled  ## Compare requests while a wiped node gets 100,000 keys back with requests before it, in one run
	$(BIN)/python -m tests.scale --only refill

bench-join: $(READY) compiled  ## Compare requests while a node joins and fetches its share of 100,000 keys with requests without it, in one run
	$(BIN)/python -m tests.scale --only transfer

tails: $(READY) tools compiled  ## Measure how late answers are beside slow, frozen and dead owners and background jobs: TAILS='--keys 10000 --only frozen'
	$(BIN)/python -m tests.scale.tails $(TAILS)

scale: $(READY) tools compiled  ## Measure CPU, memory and latency by keys, values, connections, mixes, nodes, repairs: SCALE='--only start,values'
	$(BIN)/python -m tests.scale $(SCALE)

thousand: $(READY)  ## Measure by simulation what a node costs in a cluster of 10 to 1,000: THOUSAND='--nodes 10,100'
	$(BIN)/python -m tests.scale.thousand $(THOUSAND)

paper: $(READY) compiled  ## Rebuild figure 5 and table 2 of the Dynamo paper: PAPER='--rounds 2 --seconds 5'
	$(BIN)/python -m tests.paper.buffered_writes $(PAPER)
	$(BIN)/python -m tests.paper.client_coordination $(PAPER)

stacks: stacks-installed  ## Run Celery, Django, BullMQ and other libraries that know Redis only, while a node is killed and one is frozen
	$(BIN)/pytest tests/stacks

stacks-quick: stacks-installed  # the same in a healthy cluster only
	$(BIN)/pytest -n $(WORKERS) tests/stacks -k 'test_it_works and not fail'

stacks-node: stacks-installed  # those of Node.js only: clients, sessions, rate limits, and clients over TLS as a user
	$(BIN)/pytest tests/stacks/test_node.py tests/stacks/test_node_tls.py

# Libraries in Python have an environment of their own; those of other languages, and the languages, come from apt if this is root:
# one by one if a package is not to be had. What is missing is skipped.
stacks-clients: $(READY) compiled  ## Let 42 client libraries in eleven languages connect to three nodes and do SET, INCR, HSET, pipelines
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; install="apt-get install -y -qq --no-install-recommends"; list=tests/stacks/clients/debian.txt; \
		apt-get update -qq; xargs $$install <$$list >/dev/null || xargs -n 1 $$install <$$list >/dev/null || true; \
		command -v npm >/dev/null || $$install nodejs npm >/dev/null; fi
	[ -d $(VENV)/clients ] || $(PYTHON) -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install -q --disable-pip-version-check -r tests/stacks/clients/requirements.txt
	@if command -v npm >/dev/null; then cd tests/stacks/clients && npm ci --silent --no-audit --no-fund; else echo "npm is missing: the libraries in JavaScript will be skipped" >&2; fi
	$(BIN)/pytest -n $(WORKERS) -rs tests/stacks/test_clients.py

# arq wants a redis-py that others do not. Node.js comes from apt if it is missing and this is root; without it its tests are skipped.
stacks-installed: $(READY) compiled
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev,stacks]'
	[ -d $(VENV)/arq ] || $(BIN)/pip install -q --disable-pip-version-check --target $(VENV)/arq 'arq>=0.26'
	@if ! command -v npm >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; fi; \
	if command -v npm >/dev/null; then cd tests/stacks/node && npm ci --silent --no-audit --no-fund; else echo "npm is missing: the stacks in JavaScript will be skipped" >&2; fi

wheel: compiled  ## Build dist/dyn-*.whl: compiled for this Python, with man pages and completions
	rm -rf build/lib* build/bdist* dist
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

wheel-test: wheel  ## Install the wheel into a fresh environment, and run three compiled nodes from it
	rm -rf build/wheel-test
	$(PYTHON) -m venv build/wheel-test/venv
	build/wheel-test/venv/bin/pip install -q --disable-pip-version-check dist/dyn-*.whl
	$(BIN)/python -m tests.wheel_check build/wheel-test

ops-check: $(READY)  ## Check the files of ops/ with the checkers of systemd, Docker and Kubernetes, as far as they can be installed
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev,ops]'
	@command -v systemd-analyze >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null; } || echo "systemd-analyze is missing: the units are checked by their keys only" >&2
	$(BIN)/pytest tests/test_deployment.py tests/test_ops.py
	@if docker info >/dev/null 2>&1; then docker build -f ops/Dockerfile -t dyn .; else echo "no Docker daemon: the image is not built" >&2; fi

clean:  ## Remove what the targets made, but never data
	rm -rf $(VENV) *.egg-info build dist server/compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis

compiled: $(READY)  ## Compile the hot code for the nodes, unless that is current; without a compiler they run the sources
	@headers=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	if ! { command -v cc >/dev/null && [ -e "$$headers/Python.h" ]; } && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev >/dev/null; fi; \
	$(BIN)/python -W ignore setup.py -q build_ext --inplace

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dyn needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); } || { echo "cannot make a virtual environment: install python3-venv" >&2; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

# Programs that some tests drive. Without them, and without root to install them, those tests are skipped.
tools:
	@missing=""; command -v redis-cli >/dev/null || missing="$$missing redis-tools"; command -v faketime >/dev/null || missing="$$missing faketime"; command -v redis-server >/dev/null || missing="$$missing redis-server"; command -v valgrind >/dev/null || missing="$$missing valgrind"; command -v promtool >/dev/null || missing="$$missing prometheus"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; \
	command -v redis-cli >/dev/null || echo "redis-cli is missing (package redis-tools): the tests with stock clients will be skipped" >&2; \
	command -v redis-server >/dev/null || echo "redis-server is missing: the tests that compare with it will be skipped" >&2; \
	command -v promtool >/dev/null || echo "promtool is missing (package prometheus): alert rules are judged by the tests alone" >&2; \
	command -v valgrind >/dev/null || echo "valgrind is missing: the test that counts instructions will be skipped" >&2
