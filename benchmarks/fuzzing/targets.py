"""All kinds of files that the fuzzer knows, in the order in which it goes through them."""

from __future__ import annotations

from fuzzing import coded_files, data_files, model_files  # noqa: F401  (they enter themselves)
from fuzzing.target import TARGETS, Target, inputs

__all__ = ["TARGETS", "Target", "inputs"]
