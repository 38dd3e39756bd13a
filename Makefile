# Thin: everything is in bootstrap.py, for those without make.
PYTHON ?= python3
COMMANDS := help lab test check weeks site notebooks lock clean

# What follows `check` are its arguments, and no targets: make check grading
ifeq (check,$(firstword $(MAKECMDGOALS)))
ARGS := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
COMMANDS := check
$(ARGS):
	@:
endif

$(COMMANDS):
	@$(PYTHON) bootstrap.py $@ $(ARGS)

.DEFAULT_GOAL := help
.PHONY: $(COMMANDS) $(ARGS)
