# Every target sets up what it needs, from nothing but Python >= 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILED := .venv/.compiled

.PHONY: repro gate test quick check audit fuzz lock install pretrain grid experiments compare image-test wheel \
  wheel-test sbom docs stack

repro: install  ## chunk -> crops -> model -> metrics; only what is not up to date runs
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

gate: repro  ## exit 1 where the test videos, as they are or degraded, are answered worse than at the last release
	$(BIN)/unmask gate

# As many tests at once as there are processors, at most four; `make test TESTS=1` runs them in a row.
TESTS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && echo 4 || echo $$n)
# One thread each: two nets that wait for each other's threads on the same cores take ten times as long.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTS) --dist loadfile --no-loadscope-reorder

test: install $(COMPILED)  ## all tests; the longest files first
	$(PYTEST)

# What trains, starts servers, or decodes much, and what is slow to import, is left to `make test`.
NOT_QUICK = tests/project tests/serve tests/sagemaker tests/cli tests/forgeries tests/models \
  tests/federated tests/tracking tests/runtime/test_processes.py tests/runtime/test_confinement.py \
  tests/runtime/test_without_compiler.py \
  tests/faces/test_crops.py tests/faces/test_kinds.py tests/faces/test_stage.py \
  tests/faces/test_files.py tests/video/test_colour.py tests/answers/test_calibration.py \
  tests/answers/test_analysis.py tests/answers/test_html_report.py \
  tests/answers/test_model_source.py tests/answers/test_provenance.py \
  tests/evaluation/test_split_study.py tests/evaluation/test_robustness.py \
  tests/evaluation/test_plots.py

quick: install  ## between two edits: what needs no server, browser, training or worker processes
	$(PYTEST) -q -m "not slow" $(addprefix --ignore ,$(NOT_QUICK))

image-test: install  ## builds the images, answers in one and trains in the other; skips without podman
	$(BIN)/python tests/parts/try_serve_image.py
	$(BIN)/python tests/parts/try_image.py

# Or COMPOSE=podman-compose
COMPOSE ?= docker compose

stack:  ## unmask serve, and MLflow with PostgreSQL and S3, in containers on this machine: docs/serve.md
	$(PYTHON) containers/make_secrets.py
	$(COMPOSE) --file containers/compose.yaml up --build --detach

wheel: install  ## dist/: wheel and source distribution, with the model that `make repro` made
	@test -f model/net.onnx || { echo "error: no model/net.onnx: make repro, which trains one" >&2; exit 1; }
	rm -rf dist
	UNMASK_WHEEL_MODEL=model $(BIN)/python -P -m hatchling build -t sdist -t wheel -d dist

wheel-test: wheel  ## installs it into an empty environment, and asks it about a clip, offline
	$(BIN)/python tests/parts/try_wheel.py

# A tool of its own, apart from the lock: nothing here imports it.
SBOM = $(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py environment

sbom: wheel  ## dist/unmask.cdx.json: what a plain installation of that wheel brings, in CycloneDX
	rm -rf dist/.venv
	$(BIN)/uv venv --quiet --python $(BIN)/python dist/.venv
	$(BIN)/uv pip install --quiet --python dist/.venv/bin/python --constraint requirements.lock dist/*.whl
	$(SBOM) --output-reproducible --pyproject pyproject.toml --output-file dist/unmask.cdx.json dist/.venv
	rm -rf dist/.venv

check: install  ## format, lint, types, known vulnerabilities of what is pinned
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint containers/Dockerfile containers/*.Dockerfile federated/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec containers/compose.yaml
	@$(MAKE) --no-print-directory audit

audit: install  ## pip-audit on requirements.lock; says so where no service can be asked
	$(BIN)/python tests/parts/audit_lock.py

FUZZ_SECONDS ?= 60

fuzz: install  ## each fuzz target for FUZZ_SECONDS, from where the last run ended
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

DOCS = .site/tools

docs: $(DOCS)/.installed  ## .site/html/index.html: README, docs/ and the API, to be read offline; strict
	$(DOCS)/bin/python docs/site/gather.py .site/pages
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict  # --quiet would pass over warnings
	@echo "open .site/html/index.html"

# Tools of their own, apart from the lock: nothing here imports them.
$(DOCS)/.installed: docs/site/requirements.lock | $(INSTALLED)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(DOCS)
	$(BIN)/uv pip sync --quiet --python $(DOCS)/bin/python --require-hashes docs/site/requirements.lock
	touch $@

# The article's grid. A plain loop, because a worker of `dvc exp run --queue` can hang after some
# experiments (DVC's issue 10398, open). What has its name already was done: an interrupted grid goes on.
BACKBONES ?= x3d_xs x3d_s x3d_m
LAYERS ?= 1 3
RATES ?= 1e-3 1e-4
BATCHES ?= 8 16

grid: install  ## one experiment, and one MLflow run, for each setting: `make grid RATES=1e-3`
	@set -e; PATH="$(CURDIR)/$(BIN):$$PATH"; \
	for backbone in $(BACKBONES); do for layers in $(LAYERS); do \
	for rate in $(RATES); do for batch in $(BATCHES); do \
	  name="$$backbone-layers$$layers-lr$$rate-batch$$batch"; \
	  if dvc exp list --name-only | grep -qxF "$$name"; then echo "$$name: done before"; continue; fi; \
	  dvc exp run --temp --name "$$name" -S "model.backbone=$$backbone" \
	    -S "train.unfreeze_top_layers=$$layers" -S "train.lr_head=$$rate" -S "train.batch_size=$$batch"; \
	done; done; done; done
	@$(MAKE) --no-print-directory -o install BIN="$(BIN)" experiments

experiments: install  ## the table: each one's metrics and the params it changed, without files
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc exp show --md --only-changed \
	  --drop '(Created|State|Executor|.*/.*|^robustness\..*\.(roc_auc|log_loss)$$|^model$$|^raw$$|^faces$$)'

compare: install  ## docs/backbones.md's table: each trained as an experiment, its speed measured here
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/compare.py

# PORTRAITS: a folder with the files of weights/portraits.csv, as further people; see docs/pretrain.md.
PORTRAITS ?=

pretrain: install  ## makes weights/x3d_xs.safetensors again: an hour or so on two cores
	$(BIN)/unmask pretrain $(if $(PORTRAITS),--portraits "$(PORTRAITS)")

install: $(INSTALLED)

UV_SYNC = $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes
# What stages import is compiled here, by two processes: confined workers and whoever sets
# PYTHONDONTWRITEBYTECODE would do it anew each time. To compile all that is installed takes 2.5
# times as long.
SLOW_IMPORTS = 'lightning, onnx, pytorchvideo.models, torchvision' \
  'av, cv2, dvc.cli.parser, dvc.repo, matplotlib.pyplot, mlflow.models, \
mlflow.store.tracking.sqlalchemy_store, networkx, openvino'

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Python >= 3.11 is needed"'
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV_SYNC) requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	printf '%s\n' $(SLOW_IMPORTS) | \
	  env -u PYTHONDONTWRITEBYTECODE xargs -P 2 -I {} $(BIN)/python -P -W ignore -c 'import {}'
	$(BIN)/python -P -c 'from unmask.cli.check_install import main; main()'
	touch $@

# Everything compiled: for tests, whose many processes import what no stage does.
$(COMPILED): $(INSTALLED)
	$(UV_SYNC) --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# What the images hold, pinned as the environment is.
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --constraint requirements.lock \
  --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(INSTALLED)  ## pin every package anew, with hashes and without an index
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --output-file requirements.lock pyproject.toml
	$(PIN) --extra container --output-file containers/requirements.lock pyproject.toml
	$(PIN) --extra serve --extra stills --extra c2pa --output-file containers/serve.lock pyproject.toml
	echo hatchling | $(PIN) --output-file containers/build.lock -
	printf '%s\n' mlflow boto3 psycopg2-binary | $(PIN) --output-file containers/mlflow.lock -
	$(PIN) --output-file docs/site/requirements.lock docs/site/requirements.in
