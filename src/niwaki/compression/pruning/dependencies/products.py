"""Rules of operations that multiply values with weights: matrices, convolutions, norms, tables."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from niwaki.compression.pruning.dependencies.labels import along, axes, collapsed, product, reduced, tight
from niwaki.compression.pruning.dependencies.rules import Follower, aligned, rule


def _matmul(to: Follower, x: Any, w: Any, out: Tensor, *more: Any) -> None:
    """(…, n, k)·(…, k, m): multiply on a common grid, sum over k."""
    n = max(x.ndim, w.ndim)
    a, b = to.of(x), to.of(w)
    for one in (a, b):
        if one.weight:
            to.dependencies.made += one.units
    left = a.each(lambda f: along(f, n).unsqueeze(-1))  # (…, n, k, 1)
    right = b.each(lambda f: along(f, n).unsqueeze(-3))  # (…, 1, k, m)
    met = reduced(product(to.dependencies, [left, right]), [n - 1])
    to.note(
        out,
        product(to.dependencies, [met, *(aligned(to, m, out.ndim) for m in more if isinstance(m, Tensor))]),
    )


@rule("mm", "bmm", "matmul")
def _mm(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    _matmul(to, a["self"], a.get("mat2", a.get("other")), out)


@rule("addmm", "baddbmm")
def _addmm(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    _matmul(to, a.get("mat1", a.get("batch1")), a.get("mat2", a.get("batch2")), out, a["self"])


@rule("linear")
def _linear(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    w, x = a["weight"], a["input"]
    turned = w.t()
    to.note(turned, to.of(w).each(lambda f: f.t()))
    _matmul(to, x, turned, out, a["bias"])


@rule("mv")
def _mv(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """(n, k)·(k): a matrix of one column."""
    column, made = a["vec"].unsqueeze(1), out.unsqueeze(1)
    to.note(column, to.of(a["vec"]).each(lambda f: f.unsqueeze(1)))
    _matmul(to, a["self"], column, made)
    to.note(out, to.of(made).each(lambda f: f.squeeze(1)))


@rule("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
def _conv(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """out[n, g, o] = Σ_i w[g, o, i]·x[n, g, i]: places and taps fall together, groups stand side by side."""
    x, w, g = a["input"], a["weight"], a["groups"]
    dependencies, spatial = to.dependencies, range(2, x.ndim)
    weights = collapsed(dependencies, to.of(w), spatial)
    if weights.weight:
        dependencies.made += weights.units
    left = collapsed(dependencies, to.of(x), spatial).each(
        lambda f: tight(_grouped(f.flatten(1), 1, g)[:, :, None])
    )

    def spread(f: Tensor) -> Tensor:
        f = f.reshape(f.shape[:2])  # taps are gone
        grouped = _grouped(f, 0, g)  # (g, o, i), or (g, i, o) where transposed
        return tight((grouped.transpose(1, 2) if a["transposed"] else grouped)[None])

    right = weights.each(spread)
    met = reduced(product(dependencies, [left, right], apart=(1,)), [3])
    if g > 1:
        for f, axis in [*((f, 3) for f in left.units), *((f, 2) for f in met.units)]:
            if f.shape[1] > 1 and f.shape[axis] > 1:
                dependencies.grid(f, axis)
    made = met.each(lambda f: tight(_merged(f, g, out.shape[1])[..., *[None] * len(spatial)]))
    to.note(out, product(dependencies, [made, aligned(to, a["bias"], out.ndim, 1)]))


def _grouped(f: Tensor, axis: int, groups: int) -> Tensor:
    return f.unflatten(axis, (groups, -1) if f.shape[axis] > 1 else (1, 1))


def _merged(f: Tensor, groups: int, total: int) -> Tensor:
    """(n, g, o) → (n, g·o)"""
    if f.shape[1] == f.shape[2] == 1:
        return f.flatten(1)
    return f.expand(-1, groups, total // groups).flatten(1)


@rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    x = a["input"]
    to.note(
        out[0], product(to.dependencies, [aligned(to, a.get(k), x.ndim) for k in ("input", "weight", "bias")])
    )


@rule(
    "native_group_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
)
def _channel_norm(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    x = a["input"]
    names = ("weight", "bias", "running_mean", "running_var")
    parts = [to.of(x), *(aligned(to, a.get(k), x.ndim, 1) for k in names)]
    if a.get("group", 1) > 1:
        for f in parts[0].units:
            if axes(f) == (1,):
                to.dependencies.norms.append(f.reshape(a["group"], -1))
    to.note(out[0], product(to.dependencies, parts))


@rule("embedding")
def _embedding(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    table = reduced(to.of(a["weight"]), [0])
    to.dependencies.made += table.units
    to.note(out, table.each(lambda f: along(f, out.ndim)))
