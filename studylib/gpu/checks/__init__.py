"""Watches a run: races, uninitialised reads, and what each access costs."""
