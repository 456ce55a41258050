"""Bundles as C99: networks, the sampler and its noise in one file without dependencies."""
