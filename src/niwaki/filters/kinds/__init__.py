"""Kinds of filters: one file each."""
