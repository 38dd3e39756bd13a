"""Measurements of speed, as ratios taken in one run; what was measured is kept in results/."""
