"""Bounds that hold at all times at once, so that looking often costs nothing of what they promise."""
