"""How tests are dealt to workers (`--dist loadgroup`).

A file's tests go to one worker, so that what they share is made once; files whose tests share nothing and are
long are dealt one by one, at the end, which evens out.
"""

from __future__ import annotations

import pytest

ALONE = {"test_whole_way.py", "test_prunability.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name not in ALONE:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
