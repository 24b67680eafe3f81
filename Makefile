# make setup | demo | test | lint: each does all the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := finetune,line,video,server,scale,ray,dev
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
UV := .uv/bin/uv
endif

# Every test that starts a process would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-demo setup-photos demo demo-photos test test-slow test-docs test-storms test-pages test-attack lint pins clean

setup: $(VENV)/.ready
setup-demo: $(VENV)/.ready-demo
setup-photos: $(VENV)/.ready-photos

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

$(VENV)/.ready: pyproject.toml constraints.txt | $(filter .uv/bin/uv,$(UV))
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

# The demonstration needs neither torch nor what the line and the server need.
$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(filter .uv/bin/uv,$(UV))
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	test -e $(VENV)/.ready || $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[train]'
	touch $@

$(VENV)/.ready-photos: pyproject.toml constraints.txt | $(VENV)/.ready-demo
	@echo "elpv-dataset: photographs under CC BY-NC-SA 4.0 (not for commercial use), used by the demo only"
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[train,photos]'
	touch $@

demo: setup-demo
	$(BIN)/gonogo demo --out demo --overwrite

# Real photographs, which only this target installs (90 MB); training needs no torch here either.
demo-photos: setup-photos
	$(BIN)/gonogo demo --photos --out demo-photos --overwrite

# A process per core with one thread each: threads that share cores wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n auto --maxprocesses 4 --dist loadfile

# The documentation's own examples: every command is checked, and what a page says it runs is run.
test-docs: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m docs README.md docs -n auto --maxprocesses 4 --dist loadfile

# Every command, route and format against hostile values; QUICK=1 takes a tenth of them.
test-storms: setup
	QUICK=$(QUICK) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m storm -n auto --maxprocesses 4 --dist loadfile

# Needs Debian's chromium.
test-pages: setup
	$(BIN)/python -m pytest -m pages tests/pages

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable --no-warn-unused-ignores --cache-dir .mypy_cache/win32 --exclude '^src/gonogo/testing/' src
	$(BIN)/lint-imports

# The attack campaign of docs/trust.md; QUICK=1 makes a twentieth of it. The last line is the figures, as JSON.
test-attack: setup
	QUICK=$(QUICK) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m attack tests/attack

# Everything that measures lies in benchmarks/. Each target takes QUICK=1, most a minute or two then; ARGS goes to the
# command, for example ARGS='--bundle part.inspector --photos photos'. The last line is the figures, as JSON.
.PHONY: bench chaos load week guarantee drift tampering ledger-timing centre-timing duplicates fleet study-products study-codes scale-batch
MEASURE = PYTHONPATH=benchmarks $(BIN)/python -m
QUICKLY = $(if $(QUICK), --quick) $(ARGS)

# Hostile inputs: 50,000 mutated pictures, decoding bombs, edited bundles, archives. ARGS='--only pictures --seed 7'
.PHONY: fuzz
fuzz: setup
	OMP_NUM_THREADS=1 $(MEASURE) fuzz$(QUICKLY)

# Tests of the tests: small changes of the code that decides, of which some test must notice each. Results are kept:
# a run that was interrupted goes on. ARGS='--only operating_point', ARGS='--again' after a change of tests.
.PHONY: mutants
mutants: setup
	$(MEASURE) mutants$(QUICKLY)

# Whole judgements against the bare network, torch and other runtimes.
bench: setup
	$(MEASURE) bench --out bench$(QUICKLY)

# Kills, trigger storms, failures and stray pictures; QUICK=1 makes a twentieth of them.
chaos: setup
	$(MEASURE) chaos$(QUICKLY)

# Branch coverage of what a wrong go would come from: operating point, ROI losses, bundle, ledger, station; QUICK=1 takes
# the first three. Each line and branch that did not run is named. ARGS='--only ledger'
.PHONY: coverage
coverage: setup
	OMP_NUM_THREADS=1 $(MEASURE) branch_coverage$(QUICKLY)

# A station held at 80 % of its capacity for ten minutes.
load: setup
	$(MEASURE) load_test$(QUICKLY)

# A real station for an hour, asked over TCP: memory, handles, latency, ledger, a full disk and a stepped clock (needs
# Debian's faketime) on the way. QUICK=1 takes five minutes, ARGS='--hours 8' as long as you like.
.PHONY: soak
soak: setup
	$(MEASURE) soak$(QUICKLY)

# A week of a line, faster than real time, and the shift leader's page about it.
week: setup
	$(MEASURE) week --out week$(QUICKLY)

# Thousands of calibrations where the true rates are known: how often is the promise broken?
guarantee: setup
	$(MEASURE) guarantee$(QUICKLY)

# How soon the drift alarm finds a change; ARGS='BUNDLE DATASET' for other parts than rendered ones.
drift: setup
	$(MEASURE) drift$(QUICKLY)

# A station for three products, 3,000 triggers in random order: right bundles, foreign parts, time of a changeover.
study-products: setup
	$(MEASURE) study_products --out study/products$(if $(DATA), --data $(DATA))$(QUICKLY)

# 1,000 rendered codes at three sizes under blur and glare: how many are read, how many wrongly?
study-codes: setup
	$(MEASURE) study_codes --out study/codes$(QUICKLY)

# Staged roll-outs of better and worse bundles: which are stopped, after how many parts, and what slips through?
fleet: setup
	$(MEASURE) fleet$(QUICKLY)

# Random edits of a ledger: is every one found?
tampering: setup
	$(MEASURE) tampering$(QUICKLY)

# Commits, queries and verification of a ledger on this disk.
ledger-timing: setup
	$(MEASURE) ledger_timing$(QUICKLY)

# A centre in PostgreSQL: migration of a million rows, forwarding, what the line pays. Needs Debian's postgresql.
centre-timing: setup
	$(MEASURE) centre_timing$(QUICKLY)

# Does it carry a company? 1,000 stations on one centre for ten minutes while its database crashes and the network is
# cut; a ledger of a million rows migrated; everything that shows it, one after the other. Needs Debian's postgresql.
.PHONY: scale-stations scale-migration test-scale test-protocols
scale-stations: setup
	$(MEASURE) scale.stations$(QUICKLY)

scale-migration: setup
	$(MEASURE) centre_timing --only migration$(QUICKLY)

# Every protocol with real peers, killed and restarted at random; QUICK=1 takes a twentieth of the counts.
test-protocols: setup
	$(MEASURE) protocols.everything$(QUICKLY)

# What each protocol adds to the bare judgement, asked in turn in one run, and the memory of a station with all of them.
.PHONY: bench-protocols
bench-protocols: setup
	$(MEASURE) protocols.latency$(QUICKLY)

test-scale: setup
	$(MEASURE) scale.everything$(QUICKLY)

# 100,000 pictures on Ray against pinned processes on the same cores, with killed workers and a killed driver.
scale-batch: setup
	$(MEASURE) scale.batch$(QUICKLY)

# Clicks, keys, pages and waiting time of the standard tasks on the pages, before and after. Needs Debian's chromium.
.PHONY: clicks
clicks: setup
	$(MEASURE) clicks$(QUICKLY)

# Re-shot copies: how many does the search for near-duplicates find? ARGS=DATASET for other pictures than rendered ones.
duplicates: setup
	$(MEASURE) duplicates$(QUICKLY)

# Datumaro, Label Studio's SDK and Ultralytics read our label files, each in an environment of its own below build/.
.PHONY: check-formats
check-formats: setup
	PATH="$(PATH):$(CURDIR)/.uv/bin" QUICK=$(QUICK) $(MEASURE) check_formats

# Model API opens an exported classifier, in an environment of its own below build/, and must say what gonogo says.
# ARGS='--url HOST:PORT/v2/models/NAME --bundle BUNDLE' asks a running KServe v2 server instead.
.PHONY: check-tools
check-tools: setup
	PATH="$(PATH):$(CURDIR)/.uv/bin" $(MEASURE) check_tools$(QUICKLY)

# EtherNet/IP against cpppo's simulated controller, in an environment of its own below build/: killed at random like the
# station, fuzzed, timed; QUICK=1 takes a twentieth of the counts. The test that needs cpppo runs first.
.PHONY: check-ethernet-ip
check-ethernet-ip: setup
	$(UV) venv --quiet --clear --python $(PYTHON) build/cpppo
	$(UV) pip install --quiet --python build/cpppo/bin/python cpppo==5.2.5
	$(BIN)/pytest -m "" tests/test_ethernet_ip.py
	$(MEASURE) protocols.everything$(QUICKLY) --only ethernet_ip

# Sparkplug B against a host application of another author, in an environment of its own below build/.
.PHONY: check-sparkplug
check-sparkplug: setup
	$(UV) venv --quiet --clear --python $(PYTHON) build/pysparkplug
	$(UV) pip install --quiet --python build/pysparkplug/bin/python pysparkplug==0.6.1
	$(BIN)/pytest -m "" tests/test_sparkplug.py

# The OPC UA server against node-opcua, a client that shares no code with it, in an environment of its own below build/:
# model, methods, events, certificates, passwords, then parts while client and station are killed. Without npm it says so.
.PHONY: check-opcua
check-opcua: setup
	$(MEASURE) protocols.everything$(QUICKLY) --only opcua_node

# Everything in deploy/: linted, rendered, validated, and the compose file's services started as processes (needs Debian's
# postgresql and mosquitto); QUICK=1 does not start them. The tools get an environment of their own below build/.
.PHONY: check-deploy manifests image-size
check-deploy: setup
	PATH="$(PATH):$(CURDIR)/.uv/bin" $(MEASURE) check_deploy$(QUICKLY)

# Renders deploy/manifests from the chart in deploy/helm.
manifests: setup
	PATH="$(PATH):$(CURDIR)/.uv/bin" $(MEASURE) check_deploy --write

# Size of what the image installs beside Python, in MiB: with training, without, and for a station alone.
image-size: | $(filter .uv/bin/uv,$(UV))
	@for extras in server,scale,train server,scale line; do \
	  $(UV) venv --quiet --clear --python $(PYTHON) build/image && \
	  $(UV) pip install --quiet --compile-bytecode --python build/image/bin/python --constraint constraints.txt ".[$$extras]" && \
	  ! test -e build/image/lib/python3*/site-packages/torch && \
	  echo "$$extras: $$(du -sm build/image | cut -f1) MiB" || exit 1; \
	done

# Studies of the default method on the photographs in the folder DATA, on rendered boards without; QUICK=1 takes a few
# minutes. What is finished in study/ is kept. ARGS='--backbone mobilenet_v2=FILE', ARGS='--only cookies', ...
.PHONY: study-roi study-seeds study-curves study-ablation study-claims study-article study-maps
STUDY = --out study$(if $(DATA), --data $(DATA))$(QUICKLY)
study-roi: setup
	$(MEASURE) study_roi --out study/roi$(QUICKLY)

# Date codes on rendered chips, with and without an ignore zone around them.
.PHONY: study-zones
study-zones: setup
	$(MEASURE) study_zones --out study/zones$(QUICKLY)

# Training curves of the article's two box losses; ARGS='--weights FILE', ARGS='--data DATASET'.
.PHONY: study-losses
study-losses: setup
	$(MEASURE) study_losses --out study/losses$(QUICKLY)

study-seeds: setup
	$(MEASURE) study_seeds $(STUDY)

study-curves: setup
	$(MEASURE) study_curves $(STUDY)

study-ablation: setup
	$(MEASURE) study_ablation $(STUDY)

# "Human level" and "less human review": the inspector beside people on the same parts, and what a person still sees.
# Solar cells are judged where elpv-dataset is installed (make setup-photos).
study-claims: setup
	$(MEASURE) study_claims $(STUDY)

# Does a promise hold when the parts of a lot fail together? Coverage of the certificate and of its two checks by lot.
.PHONY: study-lots
study-lots: setup
	$(MEASURE) study_lots$(QUICKLY)

# Latency by framework, topology and device, in one run; QUICK=1 leaves out torch.compile. ARGS='--only resnet50'
.PHONY: study-frameworks
study-frameworks: setup
	$(MEASURE) study_frameworks --out study/frameworks.md$(QUICKLY)

# Imports a Keras, an ONNX and a torch classifier and compares them with their own frameworks; makes .venv-keras (2 GB).
.PHONY: check-imports
check-imports: setup
	$(MEASURE) import_models --out imports$(QUICKLY)

# The article's studies of topology, initialisation and augmentation; ARGS='--weights FOLDER' fills rows.
study-article: setup
	OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),1) $(MEASURE) study_article $(STUDY)

study-maps: setup
	$(MEASURE) study_maps $(STUDY)

# Ten thousand parts on a belt with faults: does a bad part pass the gate unnoticed?
.PHONY: study-tracking
study-tracking: setup
	$(MEASURE) study_tracking$(QUICKLY)

# Rendered scratches of known length, a gauge study of them, and boards with missing screws; ARGS='--pictures docs/images'.
.PHONY: study-sizes
study-sizes: setup
	$(MEASURE) study_sizes$(QUICKLY)

# Smaller measurements; the first lines of benchmarks/NAME.py tell what ARGS each needs.
MEASUREMENTS = evidence-speed evidence-maps training-speed tiling solar-cells noise-calibration streams page-times screenshots assist-pictures
.PHONY: $(MEASUREMENTS)
$(MEASUREMENTS): setup
	QUICK=$(QUICK) $(MEASURE) $(subst -,_,$@) $(ARGS)

# What is published: wheel and source archive built twice with the same bytes, installed with each extra and tried, the
# packages of each as CycloneDX, their licences with those of bundled libraries. QUICK=1 tries base and line only.
.PHONY: release audit
release: setup
	PATH="$(PATH):$(CURDIR)/.uv/bin" $(MEASURE) check_release$(QUICKLY)

# Known vulnerabilities of every pinned package; fails also where one could not be looked up. Needs the network.
audit: setup
	test -x build/audit/bin/pip-audit || $(UV) venv --quiet --clear --python $(PYTHON) build/audit
	$(UV) pip install --quiet --python build/audit/bin/python pip-audit
	build/audit/bin/pip-audit --strict --disable-pip --requirement constraints.txt

# The documentation as a site in build/site, which needs neither server nor network; then every page is opened at two
# widths (needs Debian's chromium; QUICK=1 opens the narrow one). ARGS='--pictures FOLDER' keeps screenshots.
.PHONY: docs
docs: setup
	test -x build/docs/bin/mkdocs || $(UV) venv --quiet --clear --python $(PYTHON) build/docs
	$(UV) pip install --quiet --python build/docs/bin/python --constraint constraints.txt mkdocs-material
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --quiet --clean
	$(MEASURE) docs_pages$(QUICKLY)

# Writes the commands and options of docs/cli.md from the program's own help.
.PHONY: docs-cli docs-schemas docs-api docs-pictures docs-plc
docs-cli: setup
	$(BIN)/python docs/make_cli.py

# Writes docs/schemas from the types in the code: results out, and the JSON of every command.
docs-schemas: setup
	$(BIN)/python docs/make_schemas.py

# Writes docs/api.md from the code: what the packages export.
docs-api: setup
	$(BIN)/python docs/make_api.py

# Draws the pictures of docs/architecture.md; the rooms are those of the import contract in pyproject.toml.
docs-pictures: setup
	$(BIN)/python docs/draw.py

# Writes the register tables of docs/modbus.md, the timing diagram and the exchanges of docs/tcp-lines.md from the code.
docs-plc: setup
	$(BIN)/python docs/make_plc.py
	$(BIN)/python docs/make_tcp.py

# Size and shape of the package; the last line is the figures, as JSON. ARGS=--list names what was counted.
.PHONY: house
house: setup
	$(BIN)/python benchmarks/house.py $(ARGS)

# Writes constraints.txt from the newest versions that fit together, each with the hashes of its files, which uv compares.
pins: | $(filter .uv/bin/uv,$(UV))
	$(UV) pip compile --quiet --upgrade --all-extras --no-header --no-annotate --generate-hashes --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) .uv demo demo-photos build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
