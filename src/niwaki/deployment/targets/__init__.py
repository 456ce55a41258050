"""What a bundle is written as, for a device: one file each, entered by name."""

from niwaki.deployment.targets.target import TARGETS, Target, register_target, with_defaults

__all__ = ["TARGETS", "Target", "register_target", "with_defaults"]
