"""Judges kernels: whether they are right, safe and within the budget, and whether that verdict can be trusted."""

from studylib.grading.verdict import Stage, Verdict, judge

__all__ = ["Stage", "Verdict", "judge"]
