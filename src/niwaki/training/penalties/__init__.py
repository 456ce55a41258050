"""Losses that may be added to those of many models; each file registers its own."""
