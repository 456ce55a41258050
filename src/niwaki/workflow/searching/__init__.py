"""Searching for a plan that meets a budget: what is measured, in which order, within which time."""
