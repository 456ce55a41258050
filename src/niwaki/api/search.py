"""Search: from a trained model and a budget to the bundle that meets it, or the reason why none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from niwaki.api.no_run import belongs_to_no_run, open_model, refuse_for_runs
from niwaki.api.progress import with_progress
from niwaki.compression.search.budget import Budget
from niwaki.core.contract import GenerativeModel
from niwaki.recipe import Overrides, Recipe
from niwaki.workflow.estimates.span import seconds_in
from niwaki.workflow.executors import need
from niwaki.workflow.given_model import open_given
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import RunContext, open_run
from niwaki.workflow.searching.record import SearchRecord
from niwaki.workflow.searching.search import search as carry_out
from niwaki.workflow.stages.train import as_trained, draws_otherwise

__all__ = ["context_of_run", "search"]

_USUAL = "20m"


@with_progress
def search(
    what: str | Path | Recipe | Mapping[str, Any] | GenerativeModel,
    overrides: Overrides = (),
    *,
    budget: str | Budget,
    time: str | float = _USUAL,
    data: Any = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    n: int | None = None,
    seed: int | None = None,
    features: Sequence[str] | None = None,
    apply: bool = False,
    sizes: int = 1,
    workers: int = 1,
    on: str = "processes",
    reporter: Reporter | None = None,
) -> SearchRecord:
    """Find a compression plan within a budget that loses nothing, and prove it on the exported bundle.

    what:   a run with a trained model, or a model of no run: in memory (`niwaki.adapt`), a factory, a
            pipeline's folder, a saved model
    budget: `latency=0.3ms, size=100kB, memory=40MB, evaluations=4`; `latency=/20` is a twentieth of what the
            model takes in torch, eager float32
    time:   of all of it: `20m`, seconds
    out:    where the result goes, as a run of its own; default: `search` in the run, or `searched`. A second
            call goes on with what was measured and trained there, also for another budget
    apply:  where no plan of the budget loses nothing, try the cheapest remedy though it exceeds the budget
    sizes:  3 gives a family, small, medium and large, whose budgets are once, twice and four times as wide
    workers: candidates that are tried side by side, each by a process with one thread; 1 tries them here, one
            after another
    on:     where these processes are: `processes` of this machine, `slurm`, `ray`
    data, weights, n, seed, features: as in `niwaki.compress`, for models of no run
    Everything is chosen by validation samples; the bundle that was chosen is judged on the test split once.
    Raises CallError for a budget that cannot be read and where no data are named; NiwakiError where nothing
    can be chosen or judged.
    """
    reporter = reporter or Quiet()
    asked = budget if isinstance(budget, Budget) else Budget.parse(budget)
    seconds = seconds_in(time)
    need(on, workers)
    if belongs_to_no_run(what):
        run = open_model(
            what, overrides, data=data, out=out or "searched", weights=weights, n=n, seed=seed,
            features=features, reporter=reporter,
        )  # fmt: skip
    else:
        refuse_for_runs(what, data=data, weights=weights, n=n, seed=seed, features=features)
        run = context_of_run(what, overrides, out, reporter)
    return carry_out(run, asked, seconds, apply=apply, sizes=sizes, workers=workers, on=on)


def context_of_run(what: Any, overrides: Overrides, out: str | Path | None, reporter: Reporter) -> RunContext:
    """The run that a search of a run's model leaves its result in.

    Raises CallError where the overrides, or other data, are not what the model was trained by: the test split
    would be another one.
    """
    context = open_run(what, overrides, None, reporter)
    with context.run.hold() if draws_otherwise(context) else nullcontext():
        as_trained(context, free=("seed",))  # the search draws by a seed of its own
    recipe, model = context.recipe, context.model
    place = Path(out) if out is not None else context.run.path / "search"
    made = open_given(
        model,
        context,
        place,
        plan=recipe.compress,
        export=recipe.export.model_dump(mode="json", exclude_unset=True),
        seed=recipe.seed,
        overrides=[],
        reporter=reporter,
    )
    made.cache = context.cache  # the same extractors look
    return made
