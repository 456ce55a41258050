"""Plans of earlier calls: one that came near goes on first, one that lost much leaves new ones their time."""

from __future__ import annotations

from workflow.searching.searches import candidate

from niwaki.workflow.searching.proposing import in_order


def test_what_came_near_is_before_new_plans_and_what_lost_much_after_them() -> None:
    near, nearer = candidate(0.1, 1e4, 1.8, "loss"), candidate(0.2, 1e4, 0.6, "inconclusive")
    ruined, bad = candidate(0.3, 1e4, 48.0, "loss"), candidate(0.4, 1e4, 5.0, "loss")
    new, newer = (candidate(ratio, 1e4, 0.0, "") for ratio in (0.5, 0.6))
    found = in_order([ruined, near, bad, nearer], [bad, new, near, newer])
    assert [c.name for c in found] == [c.name for c in (nearer, near, new, newer, bad, ruined)]
