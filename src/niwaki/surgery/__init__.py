"""Edits of a module's structure and their replay; quantized and sparse modules."""
