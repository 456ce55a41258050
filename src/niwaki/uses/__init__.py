"""What people do with a trained model beyond sampling, one file each: `niwaki use NAME SUBJECT …`."""

from niwaki.uses.base import Call, Outcome, Use, UseOptions, find_use, names_of_uses, register_use

__all__ = ["Call", "Outcome", "Use", "UseOptions", "find_use", "names_of_uses", "register_use"]
