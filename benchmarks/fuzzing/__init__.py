"""Damaged inputs for `benchmarks/fuzz.py`: how they are made, who reads them, what a reader must never do."""
