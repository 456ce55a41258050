"""Filters: does a sample show what must not be shown? A score, a threshold with its rates, never a black
picture.

Reading and applying a filter needs no torch; `niwaki.filters.fitting` trains one.
"""

from niwaki.filters.base import Filter, open_filter, register_filter
from niwaki.filters.screening import ACTIONS, Screening, screen

__all__ = ["ACTIONS", "Filter", "Screening", "open_filter", "register_filter", "screen"]
