"""Blocks that networks are built from."""
