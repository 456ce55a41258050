"""Heads in JavaScript: the values of `niwaki_runtime.heads` at the same probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from runtime.browser.node import needs_node, run

from niwaki_runtime.heads import Gaussian, Head, Mixture, Quantiles
from niwaki_runtime.samplers.paths import along, together

pytestmark = needs_node


@pytest.mark.parametrize(
    "head", [Quantiles((0.1, 0.4, 0.9)), Quantiles(), Mixture(1), Mixture(4), Gaussian()], ids=str
)
def test_values_at_probabilities(head: Head) -> None:
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.uniform(size=60), [2.0**-33, 1e-6, 0.1, 0.9, 1 - 1e-6, 1 - 2.0**-33]])
    said = rng.standard_normal((len(u), head.parameters)).astype(np.float32)
    said = np.sort(said, 1) if isinstance(head, Quantiles) else said
    code = """
    const { headFromJson, quantiles } = await from("heads.js");
    const [record, data, u] = given;
    answer(quantiles(headFromJson(record), { data: Float32Array.from(data) }, u));
    """
    made = run(code, head.to_json(), said.ravel().tolist(), u.tolist())
    np.testing.assert_allclose(made, head.quantile(said, u), rtol=1e-6, atol=1e-7)


def test_the_error_function_and_the_normal_quantile() -> None:
    x = np.concatenate([np.linspace(-7.0, 7.0, 281), [1e-12, -1e-300, 0.0]])
    u = [2.0**-33, 1e-6, 0.2, 0.5, 0.975, 1 - 1e-9]
    code = """
    const { erf, normalQuantile } = await from("gaussian.js");
    answer([given[0].map(erf), given[1].map(normalQuantile)]);
    """
    errors, quantiles = run(code, x.tolist(), u)
    np.testing.assert_allclose(errors, [math.erf(value) for value in x], rtol=4e-15)
    wanted = Gaussian().quantile(np.zeros((len(u), 2)), np.array(u))
    np.testing.assert_allclose(quantiles, wanted, rtol=1e-7, atol=1e-12)


def test_channels_are_mixed_and_steps_follow_each_other() -> None:
    fresh = np.random.default_rng(1).standard_normal((3, 2, 4)).astype(np.float32)
    factor = ((1.0, 0.0), (0.6, 0.8))
    code = """
    const { Tensor } = await from("tensor.js");
    const { along, together } = await from("samplers/paths.js");
    const z = together(new Tensor(Float32Array.from(given[0]), [3, 2, 4]), given[1]);
    answer(Array.from(along(z, 4, 0.7)));
    """
    wanted = along(together(fresh.astype(np.float64), factor), 0.7)
    np.testing.assert_allclose(run(code, fresh.ravel().tolist(), factor), wanted.ravel(), rtol=1e-12)
