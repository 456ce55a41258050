"""Bundles behind HTTP: requests of many callers are made in common batches, and each sample is what it would
be alone. Needs no torch, but for the uses."""
