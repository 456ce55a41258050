"""What verbs return: dictionaries as before, which a notebook shows as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["Comparison", "Evaluation", "Runs", "Summary"]


class Evaluation(dict[str, Any]):
    """What judges say of one thing."""

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import evaluation_view

        return evaluation_view(self)


class Comparison(dict[str, Any]):
    """Whether one thing is worse than another."""

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import comparison_view

        return comparison_view(self)


class Summary(dict[str, Any]):
    """What a run came to."""

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import run_view

        return run_view(Path(self["run"]))


class Runs(dict[str, Any]):
    """Many runs beside each other."""

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import runs_view

        return runs_view(self)
