"""Pruning by training: gates and group lasso."""
