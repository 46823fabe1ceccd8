# `make` alone prints what there is. Needs Python 3.11 or newer; everything else goes into .venv.
.DEFAULT_GOAL := help
.PHONY: help up test check bench mutants faults storm services .venv .venv-dev

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec, so that a signal for the recipe's shell reaches the supervisor itself.
up: .venv ## start Offload: web, worker and beat; Ctrl-C ends them
	@exec .venv/bin/python -m flaskapp.up

# Three at a time on two cores: most tests wait for processes. ARGS="-n 0" runs them one by one.
test: .venv-dev ## run the whole suite on real services; ARGS="-k upload" passes options on
	@.venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

check: .venv-dev ## format, lint, types and import contracts, in seconds
	@.ci/check

bench: .venv-dev ## run the side-by-side benchmarks and print a table
	@.venv/bin/python -m bench

mutants: .venv-dev ## break each promise in a copy of the code and see its test turn red
	@.venv/bin/python -m tests.mutants

faults: .venv-dev ## break everything that can break, on both stacks, and write the table of what it cost
	@.venv/bin/python -m tests.faults $(ARGS)

storm: .venv-dev ## a random storm of faults: SECONDS=120 SEED=7 REQUESTS=4000 STACK=postgresql or sqlite
	@exec env SECONDS=$(SECONDS) SEED=$(SEED) REQUESTS=$(REQUESTS) STACK=$(STACK) .venv/bin/python -m tests.faults.storm

services: .venv-dev ## start private RabbitMQ, PostgreSQL and Redis; Ctrl-C stops them
	@exec .venv/bin/python -m tests.services

.venv: # the virtual environment with what the application needs
	@.ci/venv requirements.txt

.venv-dev: # the same, with what tests and checks need on top
	@.ci/venv requirements-dev.txt
