"""Searching for a plan: what may be chosen, what it costs and loses, and which choices meet a budget."""
