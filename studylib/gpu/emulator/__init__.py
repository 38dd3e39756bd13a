"""Runs a kernel: its types are found first, then all threads of a chunk of blocks go in lock step."""
