"""Faults from outside for `benchmarks/faults.py`: who is hit, by what, and whether anything was lost."""
