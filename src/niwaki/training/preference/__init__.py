"""Tuning to what is preferred, beside a frozen copy of the model as it was."""
