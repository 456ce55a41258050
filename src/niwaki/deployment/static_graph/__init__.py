"""A graph for one sample, with every shape known: what forms without an engine are written from."""
