# make demo: from nothing to pods that talk. make test: everything that must hold. make help: the rest.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Byte code is kept and standard input is buffered, as where users run it: without, plugins are compiled for each task, and
# Python takes a program from a pipe byte by byte.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONUNBUFFERED

WORKERS ?= 2
LAB ?= lab
BACKEND ?= vxlan
SCENARIO ?= bridge routes vxlan flannel

.PHONY: help
help: ## what can be made, and how long it takes
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

.venv/ready-run: requirements.txt tools/setup
	@tools/setup run

.venv/ready-dev: requirements.txt requirements-dev.txt tools/setup
	@tools/setup dev
	@touch .venv/ready-run

.PHONY: setup
setup: .venv/ready-run ## what running the playbooks needs (1 min)

.PHONY: demo
demo: .venv/ready-run ## boot a control plane and two workers, connect their pods, prove it (10 s; the first time 1 min)
	@lab/lab up --name $(LAB) --workers $(WORKERS)
	ansible-playbook -i .lab/$(LAB)/inventory.yml playbooks/site.yml -e podnet_backend=$(BACKEND)
	@echo 'Look around: lab/lab exec$(if $(filter-out lab,$(LAB)), --name $(LAB)) worker-1 -- ip route; the end: make demo-down$(if $(filter-out lab,$(LAB)), LAB=$(LAB))'

.PHONY: demo-down
demo-down: ## take the demo's machines away
	@lab/lab down --name $(LAB)

.PHONY: test
test: unit integration nodes molecule ## everything that must hold (14 min)

.PHONY: unit
unit: .venv/ready-dev ## the pure parts (1 min)
	python -m pytest tests/unit --numprocesses 2 --dist loadfile

.PHONY: integration
integration: .venv/ready-dev ## the modules, against the kernel, in network namespaces (4 min)
	python -m pytest tests/integration --numprocesses 4 --dist loadfile

.PHONY: nodes
nodes: .venv/ready-dev ## the playbooks, on real nodes: their life, and everything they must refuse (6 min)
	python -m pytest tests/lab -m 'not long' --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: nodes-long
nodes-long: .venv/ready-dev ## what takes minutes there: upgrades, moves, handovers, mixed clusters, firewalls, hard worlds, the diagnosis (1 h)
	python -m pytest tests/lab -m long --numprocesses 2 --dist loadfile --no-loadscope-reorder

SEED ?= 1
OPS ?= 200

.PHONY: soak
soak: .venv/ready-dev ## random operations on five workers (hours; SEED=n OPS=n, a minute for each)
	SEED=$(SEED) OPS=$(OPS) python -m pytest tests/lab/node/test_soak.py --capture=no

.PHONY: molecule
molecule: .venv/ready-dev ## the roles, in the lab (3 min; SCENARIO=name for one)
	@printf '%s\n' $(SCENARIO) | xargs -P 4 -I SCENARIO molecule test -s SCENARIO

.PHONY: bench
bench: .venv/ready-dev ## what the mesh costs, against other tools: an hour or more (docs/benchmarks.md)
	python bench/bench.py

.PHONY: bench-quick
bench-quick: .venv/ready-dev ## the same on a small scale: do the benchmarks still work?
	python bench/bench.py --quick --rounds 2 --json build/bench-quick.json

.PHONY: lint
lint: .venv/ready-dev ## ruff, mypy, ansible-lint, docs, changelog, generated files, sanity (5 min)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target sanity lint-code lint-ansible

.PHONY: lint-code
lint-code: .venv/ready-dev
	ruff check .
	ruff format --check .
	python tools/variables.py --check
	python tools/rules.py --check
	mypy -p ansible_collections.weft.podnet.plugins
	mypy lab tests bench
	mypy tools/variables.py tools/rules.py

.PHONY: variables
variables: .venv/ready-dev ## regenerate what repeats schemas/inventory.json, the modules' documentation and the rules (2 s)
	python tools/variables.py
	python tools/rules.py

.PHONY: lint-ansible
lint-ansible: .venv/ready-dev
	ansible-lint
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	antsibull-changelog lint

.PHONY: sanity
sanity: .venv/ready-dev ## ansible-test sanity (ARGS='--test validate-modules' for one)
	tools/sanity $(ARGS)
