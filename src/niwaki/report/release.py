"""A gate for release: why a model must not leave the house, from what its records say of copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import CallError

__all__ = ["held_back"]


def held_back(gates: Mapping[str, Any], limit: float | None = None) -> list[str]:
    """Why not, a sentence each; none where every side passes.

    gates: by side (`trained`, `bundle`, a subject's name), as `memorisation_gate` says it
    limit: share of close copies that is let pass, in place of what chance explains; a sample that is equal to
           a training sample never is
    What was not measured does not pass. Raises CallError for a limit outside 0 … 1.
    """
    if limit is not None and not 0 <= limit <= 1:
        raise CallError(f"the limit of the gate is a share 0 … 1, not {limit}")
    if not gates:
        return ["no copies were looked for: the samples of such data are not compared with training samples"]
    reasons = []
    for side, gate in gates.items():
        if not gate or gate.get("left_out") or "passed" not in gate:
            reasons.append(
                f"{side}: copies were not looked for: {(gate or {}).get('left_out', 'not measured')}"
            )
        elif limit is None:
            reasons += [f"{side}: {reason}" for reason in gate["reasons"]]
        else:
            if gate["identical"]:
                reasons.append(f"{side}: {gate['identical']} samples are equal to a training sample")
            if gate["close"] > limit:
                low, high = gate["interval"]
                share = f"{gate['close']:.1%} (95 % {low:.1%} … {high:.1%})"
                reasons.append(
                    f"{side}: {share} of the samples are close to a training sample, {limit:.1%} may be"
                )
    return reasons
