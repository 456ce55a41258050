"""Distances and kernels of all pairs, block by block: neighbours, kernel sums, ranks."""
