# SPDX-License-Identifier: Apache-2.0
#
# For machines without an installed ROS 2. With one, use colcon build: see README.md.
# Every target does its own set-up in .venv; a step is repeated when the files it depends on change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/done
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
EXTRAS := inference,evaluation,apis,training,simulation,test,dev
# The oldest transformers that is supported, in a folder to lay over the other packages.
OLDEST := $(VENV)/oldest
OLDEST_TRANSFORMERS := $(shell sed -n 's/^transformers==//p' requirements/transformers-oldest.txt)
PYTEST_ARGS ?=
# A process a core, up to eight, each with whole files. `make test WORKERS=0` runs them one by one.
WORKERS ?= logical
SHARED := -n $(WORKERS) --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup test test-oldest lint demo clean

# A sourced ROS or another virtual environment must not leak into ours.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH
unexport PYTHONHOME VIRTUAL_ENV RMW_IMPLEMENTATION ROS_DISTRO _ROS_WHEELS_BOOTSTRAP_COMPLETE

help:
	@echo 'make demo    a simulated robot does tasks well and badly; the reports arrive'
	@echo 'make test    linters and all tests (PYTEST_ARGS=... is passed on)'
	@echo 'make test-oldest   the tests of model and inference with transformers $(OLDEST_TRANSFORMERS)'
	@echo 'make lint    ruff, mypy and import-linter alone'
	@echo 'make setup   only the set-up that the others do first: $(VENV) with ROS 2 from wheels'
	@echo 'make clean   remove everything that was made here'
	@echo
	@echo 'PYTHON=... chooses the interpreter: Python 3.11, 3.12 or 3.13 on x86_64 Linux.'
	@echo 'A machine with an installed ROS 2 needs none of this: colcon build.'

demo: setup
	$(BIN)/armor demo

test: setup
	$(BIN)/python -m pytest $(SHARED) $(PYTEST_ARGS)

# The newest transformers is what constraints.txt pins; the engine's tests run on both ends.
test-oldest: $(DONE)/oldest
	@PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -c 'from transformers import __version__ as found; \
	    assert found == "$(OLDEST_TRANSFORMERS)", found; print("[test] transformers", found)'
	PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -m pytest $(SHARED) test/model test/inference $(PYTEST_ARGS)

lint: setup
	$(BIN)/python -m pytest test/packaging/test_linters.py $(PYTEST_ARGS)

setup: $(DONE)/rendering

clean:
	rm -rf $(VENV) build install log out armor_ros.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(DONE)/venv: scripts/system_packages.sh
	@PYTHON='$(PYTHON)' scripts/system_packages.sh build
	@echo '[setup] $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) setuptools wheel
	@mkdir -p $(DONE) && touch $@

$(DONE)/ros: $(DONE)/venv requirements/ros-kilted.txt
	@echo '[setup] ROS 2 Kilted from wheels, about 60 MB'
	@$(PIP_INSTALL) -r requirements/ros-kilted.txt
	@touch $@

# The wheels are an ordinary ROS prefix; the build finds ament and rosidl there.
$(DONE)/messages: $(DONE)/ros $(wildcard armor_msgs/*.* armor_msgs/*/*)
	@echo '[setup] armor_msgs, about 30 s'
	@prefix="$$PWD/$(VENV)"; PATH="$$prefix/bin:$$PATH" \
	    CMAKE_PREFIX_PATH="$$prefix" AMENT_PREFIX_PATH="$$prefix" \
	    $(PIP_INSTALL) --no-build-isolation --no-deps --force-reinstall ./armor_msgs
	@touch $@

$(DONE)/project: $(DONE)/messages setup.py constraints.txt
	@echo '[setup] armor_ros and what it needs, about 1.2 GB on disk'
	@$(PIP_INSTALL) --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

$(DONE)/oldest: $(DONE)/project requirements/transformers-oldest.txt
	@echo '[setup] transformers $(OLDEST_TRANSFORMERS), about 130 MB on disk'
	@rm -rf $(OLDEST)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --target $(OLDEST) \
	    -r requirements/transformers-oldest.txt
	@touch $@

$(DONE)/rendering: $(DONE)/project
	@PYTHON='$(BIN)/python' scripts/system_packages.sh rendering
	@touch $@
