"""Small flows of stored levels as plain functions, by the kind of their couplings."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from niwaki_runtime.programs import BITS, Program
from niwaki_runtime.samplers import LocalBitsBack
from niwaki_runtime.specs import ConditionSpec, Levels, ValueSpec

KINDS = ["additive", "affine", "scaled", "sines", "classes"]
NORMAL = NormalDist()


class Flow:
    """Normals by Φ⁻¹ of even cells, then couplings that move every second value.

    additive: z = x + t; affine: z = x e^s + t; scaled: with layers of constants between; sines: z = x + t +
    0.4 sin 2x / 2, which is not straight; classes: affine, and t depends on the class
    """

    def __init__(self, kind: str, levels: int = 17, size: int = 12, layers: int = 4) -> None:
        rng = np.random.default_rng(3)
        self.kind, self.levels, self.size = kind, levels, size
        self.weights = rng.normal(size=(layers, 2, size, size)) * 0.35
        self.labels = rng.normal(size=(3, size))
        self.constants = rng.normal(size=(layers, 2, size)) * 0.4
        # Every second layer undoes the one before: what is normal in the end nearly is so in the beginning.
        self.constants[1::2, 0] = -self.constants[::2, 0]
        self.constants[1::2, 1] = -self.constants[::2, 1] * np.exp(self.constants[::2, 0])
        self.masks = [np.arange(size) % 2 == i % 2 for i in range(layers)]
        self.graphs: dict[str, Any] = {"cells": self.cells}
        names, backs, moved = [], [], []
        for i, mask in enumerate(self.masks):
            self._add(names, f"move_{i}", self._move(i))
            self._add(backs, f"back_{i}", self._back(i))
            moved.append(LocalBitsBack.pattern(mask))
            if kind == "scaled":
                self._add(names, f"scale_{i}", self._scale(i))
                backs.append("")
                moved.append("0")
        self.asked = ("class",) if kind == "classes" else ()
        self.plan = LocalBitsBack(
            size, 2.0 / (levels - 1), "cells", tuple(names), tuple(backs), tuple(moved), ("x", *self.asked)
        )

    def _add(self, names: list[str], name: str, graph: Any) -> None:
        names.append(name)
        self.graphs[name] = graph

    @property
    def spec(self) -> ValueSpec:
        return ValueSpec("image", (1, 1, self.size), "CHW", Levels(self.levels))

    def program(self) -> Program:
        labels = {name: ConditionSpec.label(3) for name in self.asked}
        return Program(self.plan, {"x": ConditionSpec(self.spec), **labels}, BITS)

    def cells(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = np.clip(((x + 1) / 2 * (self.levels - 1) + 0.5) / self.levels, 1e-7, 1 - 1e-7)
        h = np.vectorize(NORMAL.inv_cdf)(share)
        slope = (self.levels - 1) / (2 * self.levels)
        return h, math.log(slope) + 0.5 * h**2 + 0.5 * math.log(2 * math.pi)

    def _said(self, i: int, h: np.ndarray, y: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        stay = np.where(self.masks[i], 0.0, h)
        s = 0.8 * np.tanh(stay @ self.weights[i, 0]) if self.kind != "additive" else 0.0 * h
        t = np.tanh(stay @ self.weights[i, 1]) + (self.labels[y[0]] if y else 0.0)
        return np.where(self.masks[i], s, 0.0), np.where(self.masks[i], t, 0.0)

    def _move(self, i: int) -> Any:
        def move(h: np.ndarray, *y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            s, t = self._said(i, h, y)
            if self.kind == "sines":
                bent = np.where(self.masks[i], h + 0.2 * np.sin(2 * h) + t, h)
                return bent, np.where(self.masks[i], np.log(1 + 0.4 * np.cos(2 * h)), 0.0)
            return h * np.exp(s) + t, s

        return move

    def _back(self, i: int) -> Any:
        def back(z: np.ndarray, *y: np.ndarray) -> tuple[np.ndarray]:
            s, t = self._said(i, z, y)
            if self.kind == "sines":
                h = z - t
                for _ in range(60):
                    h = h - (h + 0.2 * np.sin(2 * h) - (z - t)) / (1 + 0.4 * np.cos(2 * h))
                return (np.where(self.masks[i], h, z),)
            return ((z - t) * np.exp(-s),)

        return back

    def _scale(self, i: int) -> Any:
        log_scale, shift = self.constants[i]
        return lambda h: ((h + shift) * np.exp(log_scale), log_scale + 0 * h)

    def samples(self, n: int, y: np.ndarray, seed: int = 1) -> np.ndarray:
        """Levels `(n, size)` of the flow itself."""
        z = np.random.default_rng(seed).normal(size=(n, self.size))
        for name, back in reversed(list(zip(self.plan.moves, self.plan.backs, strict=True))):
            if back:
                z = self.graphs[back](z, *((y,) if self.asked else ()))[0]
            else:
                low, high = (self.graphs[name](np.full((1, self.size), v))[0] for v in (0.0, 1.0))
                z = (z - low) / (high - low)
        return np.floor(np.vectorize(NORMAL.cdf)(z) * self.levels).astype(np.int64).clip(0, self.levels - 1)
