"""Judges kernels: whether they are right, safe and within the budget, and whether that verdict can be trusted."""
