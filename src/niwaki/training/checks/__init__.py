"""What can be known of a training before it: each check trains for a few steps, or not at all."""

from niwaki.training.checks.base import CHECKS, Check, Looked, Subject

__all__ = ["CHECKS", "Check", "Looked", "Subject"]
