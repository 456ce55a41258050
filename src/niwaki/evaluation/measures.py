"""The register of metrics that `evaluate` can be asked for by name.

A row says how a metric is computed from what an evaluation has, on which axis it lies and which way is
better. Modules are imported when a metric of theirs is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from torch.linalg import LinAlgError

from niwaki.core.contract import CallError, nearest
from niwaki.core.errors import first_line
from niwaki.evaluation.feature_sets import FeatureSets, K
from niwaki.evaluation.sample_measures import SAMPLE_MEASURES
from niwaki.evaluation.statistics.arrays import held
from niwaki.evaluation.statistics.result import Result

__all__ = [
    "ALL",
    "BY_JUDGES",
    "DEFAULT",
    "Measure",
    "Measured",
    "axes",
    "check_metrics",
    "measure",
    "measures",
]

ALL = "all"
GROUPS = 10
"""Of the jackknives that give intervals."""

Compute = Callable[[FeatureSets], dict[str, Result]]


@dataclass(frozen=True)
class Measure:
    """One metric.

    axis:      `fidelity`, `diversity`, `both`, `memory`; empty where it speaks of none
    better:    `higher` or `lower`; empty where neither is
    own_floor: it brings its floor along: training samples in the place of the generated ones would be called
               copies of themselves
    compute:   it and those that the same pass gives; None where it looks at samples, not at features
    """

    name: str
    axis: str
    better: str
    own_floor: bool = False
    compute: Compute | None = field(default=None, repr=False)


_MEASURES: dict[str, Measure] = {}


def _register(own_floor: bool = False, **kinds: tuple[str, str]) -> Callable[[Compute], Compute]:
    """Decorator: the function gives these metrics, each with its axis and which way is better."""

    def enter(compute: Compute) -> Compute:
        for name, (axis, better) in kinds.items():
            _MEASURES[name] = Measure(name, axis, better, own_floor, compute)
        return compute

    return enter


@_register(
    precision=("fidelity", "higher"),
    recall=("diversity", "higher"),
    density=("fidelity", "higher"),
    coverage=("diversity", "higher"),
    clipped_density=("fidelity", "higher"),
    clipped_coverage=("diversity", "higher"),
    realism=("fidelity", "higher"),
    rarity=("", ""),
)
def _manifold(sets: FeatureSets) -> dict[str, Result]:
    return sets.sweep.manifold.results()


@_register(frechet=("both", "lower"))
def _frechet(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.frechet import frechet_distance

    groups = min(GROUPS, min(len(sets.real), len(sets.generated)) // 2) if sets.intervals else 0
    return {"frechet": frechet_distance(sets.real, sets.generated, groups=groups)}


@_register(kernel=("both", "lower"))
def _kernel(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.gram import Polynomial
    from niwaki.evaluation.metrics.kernel import kernel_distance

    swept = sets.swept(Polynomial())
    return {"kernel": kernel_distance(sets.real, sets.generated) if swept is None else swept}


@_register(frechet_infinity=("both", "lower"))
def _frechet_infinity(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.frechet_infinity import frechet_distance_infinity

    return {"frechet_infinity": frechet_distance_infinity(sets.real, sets.generated, seed=sets.seed)}


@_register(cmmd=("both", "lower"))
def _cmmd(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.cmmd import cmmd, cmmd_of
    from niwaki.evaluation.metrics.gram import RBF

    swept = sets.swept(RBF())
    if swept is None:  # which says why not
        return {"cmmd": cmmd(sets.real, sets.generated)}
    return {"cmmd": cmmd_of(swept, sets.real.shape[1])}


@_register(mind=("both", "lower"))
def _mind(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.mind import mind

    return {"mind": mind(sets.real, sets.generated, seed=sets.seed)}


@_register(inception_score=("both", "higher"))
def _inception_score(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.inception_score import inception_score

    if sets.probabilities is None:
        return {}  # of the classifier's row alone
    return {"inception_score": inception_score(sets.probabilities, seed=sets.seed)}


@_register(lsh_precision=("fidelity", "higher"), lsh_recall=("diversity", "higher"))
def _lsh(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.lsh import lsh_precision_recall

    return lsh_precision_recall(sets.real, sets.generated, seed=sets.seed).results()


@_register(alpha_precision=("fidelity", "higher"), beta_recall=("diversity", "higher"))
def _alpha_beta(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.alpha_beta import alpha_beta

    return alpha_beta(sets.real, sets.generated, k=K).results()


@_register(vendi=("diversity", "higher"))
def _vendi(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.vendi import vendi_score

    groups = 2 * GROUPS if sets.intervals else 0
    return {"vendi": vendi_score(sets.generated, groups=groups, seed=sets.seed)}


@_register(own_floor=True, authenticity=("memory", "higher"))
def _authenticity(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.memorization.authenticity import authenticity

    return {"authenticity": authenticity(sets.train, sets.generated, test=sets.real)}


@_register(own_floor=True, copying_test=("memory", "higher"))
def _copying_test(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.memorization.copying_test import copying_test

    return {"copying_test": copying_test(sets.train, sets.real, sets.generated, seed=sets.seed).score}


@_register(
    own_floor=True, feature_likelihood=("both", "lower"), feature_likelihood_gap=("memory", "lower")
)  # fmt: skip
def _feature_likelihood(sets: FeatureSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.feature_likelihood import feature_likelihood_divergence

    found = feature_likelihood_divergence(sets.train, sets.real, sets.generated, seed=sets.seed)
    return {"feature_likelihood": found.divergence, "feature_likelihood_gap": found.gap}


@_register(own_floor=True, mifid=("both", "lower"))
def _mifid(sets: FeatureSets) -> dict[str, Result]:
    """Its floor: as far from the test split as training samples are, and as near to the training split as
    test samples are."""
    from niwaki.evaluation.memorization.mifid import mifid
    from niwaki.evaluation.metrics.frechet import frechet_distance

    found = mifid(sets.train, sets.generated, fid=frechet_distance(sets.real, sets.generated))
    ideal = mifid(sets.train, sets.real, fid=frechet_distance(sets.real, sets.reference))
    return {"mifid": found.with_floor(ideal.value)}


for _row in SAMPLE_MEASURES:
    for _name, _kind in _row.kinds.items():
        _MEASURES[_name] = Measure(_name, *_kind)

BY_JUDGES = {
    "path_length": "needs the model itself, not its samples alone",
    "train_on_synthetic": "needs the classes that samples were asked to be",
}
"""What can be asked for beside: the judge `samples` gives it, and this says why `evaluate` does not."""

DEFAULT = ("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage", "realism",
           "rarity", "frechet", "kernel")  # fmt: skip
"""What is measured where nothing is asked for."""


def measures() -> dict[str, Measure]:
    """All metrics by name."""
    return dict(_MEASURES)


ALIASES = {"fid": "frechet", "kid": "kernel", "mmd": "kernel"}
"""What others call a metric → its name. With other features than Inception's it is not their number."""


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """`("all",)` or names, each as it is called here.

    Raises CallError for an unknown name (with the nearest one), a name given twice, and for none at all.
    """
    if isinstance(names, str):
        raise CallError(f"metrics must be a list of names, not the single name '{names}'")
    names = [ALIASES.get(name, name) for name in names]
    if names == [ALL]:
        return (ALL,)
    for name in names:
        if name == ALL:
            raise CallError("'all' metrics are all there are: name no other beside it")
        if name not in _MEASURES and name not in BY_JUDGES:
            raise CallError(f"there is no metric '{name}'; {nearest(name, [*_MEASURES, *BY_JUDGES])}")
    if not names or len(set(names)) != len(names):
        raise CallError("name at least one metric, and each only once")
    return tuple(names)


def axes(names: Iterable[str]) -> dict[str, list[str]]:
    """Metrics by the axis that they speak of."""
    found: dict[str, list[str]] = {"fidelity": [], "diversity": [], "both": []}
    for name in names:
        row = _MEASURES.get(name)
        if row is not None and row.axis:
            found.setdefault(row.axis, []).append(name)
    return found


@dataclass(frozen=True)
class Measured:
    """found: by metric, each beside its floor; ideal: what the reference scores; left_out: why, by metric."""

    found: dict[str, Result]
    ideal: dict[str, Result]
    left_out: dict[str, str]


def _floor(compute: Compute, perfect: FeatureSets) -> dict[str, Result]:
    """What the reference scores; {} where it cannot be had, which takes nothing from the metric itself."""
    try:
        return compute(perfect)
    except (CallError, LinAlgError):
        return {}


def measure(sets: FeatureSets, names: Iterable[str], features: str = "") -> Measured:
    """The metrics of `names` (those of features) and all that the same passes give.

    features: of the signatures: what the features are
    A metric whose module refuses these features (no direction, fewer samples than features, copies alone, an
    overflow) is left out with its reason, and stands in no other one's way.
    """
    out = Measured({}, {}, {})
    done: set[Compute] = set()
    names = tuple(names)
    for role in ("real", "generated", "reference", "train"):  # what is broken is no metric's own affair
        held(getattr(sets, role), role, any_size=True)
    sets = replace(sets, names=names)
    perfect = sets.ideal()
    for name in names:
        row = _MEASURES[name]
        if row.compute is None or row.compute in done:
            continue
        done.add(row.compute)
        try:
            found = row.compute(sets)
        except (CallError, LinAlgError) as error:
            known = isinstance(error, CallError)
            reason = str(error) if known else f"{name} cannot be had: {first_line(error)}"
            for each in names:
                if _MEASURES[each].compute is row.compute:
                    out.left_out[each] = reason
            continue
        ideal = {} if row.own_floor else _floor(row.compute, perfect)
        out.ideal.update(ideal)
        for key, result in found.items():
            result = result.with_floor(ideal[key].value) if key in ideal else result
            text = f"{result.signature}|features:{features}" if features else result.signature
            out.found[key] = replace(result, signature=text)
    return out
