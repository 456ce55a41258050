"""Forecasts beside other libraries': tasks, and what each side does with them."""
