# Thin: everything is in bootstrap.py, for those without make.
PYTHON ?= python3

help lab test weeks site notebooks lock clean:
	@$(PYTHON) bootstrap.py $@ $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help lab test weeks site notebooks lock clean
