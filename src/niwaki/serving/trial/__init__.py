"""A/B: two models behind one name, users divided by draws of their own, bounds that hold at all times."""
