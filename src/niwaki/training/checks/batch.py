"""Find the batch size: how many samples a second are trained on at each, and where more gain nothing."""

from __future__ import annotations

import time

import psutil

from niwaki.training.checks.base import CHECKS, Check, Looked, Subject
from niwaki.training.checks.few_steps import train_few

__all__ = ["BatchSize"]

_TIMES = (0.25, 0.5, 1, 2, 4, 8)
_STEPS, _WARM = 5, 2
_ENOUGH = 0.9
"""Of the best throughput."""
_MEMORY = 0.8
"""Of what is free: where the next batch would take more, the search ends."""


@CHECKS.register("batch")
class BatchSize(Check):
    """Steps at a quarter to eight times the recipe's batch, timed; it says what this machine likes, not what
    learns best: the rate that goes with a batch is another one."""

    title = "batch size"
    usual = False

    def look(self, subject: Subject) -> Looked:
        own = subject.config.of_stage(subject.config.all_stages[0]).batch
        sizes = [int(own * k) for k in _TIMES if int(own * k) >= 1 and int(own * k) <= len(subject.split)]
        rates, before = dict[int, float](), psutil.Process().memory_info().rss
        for i, size in enumerate(sizes):
            rates[size] = size / _seconds(subject, size)
            subject.progress(i + 1, len(sizes))
            grown = psutil.Process().memory_info().rss - before
            if 2 * grown > _MEMORY * psutil.virtual_memory().available:
                break
        best = max(rates.values())
        liked = next(size for size, rate in rates.items() if rate >= _ENOUGH * best)
        shown = ", ".join(f"{size}: {rate:,.0f}" for size, rate in rates.items())
        text = f"samples/s by batch size: {shown}; from {liked} on, larger batches gain less than a tenth"
        return Looked.one("note", "batch size", text, rates=rates, best=liked)


def _seconds(subject: Subject, size: int) -> float:
    marks = list[float]()

    def mark(done: int, total: int) -> None:
        marks.append(time.perf_counter())

    heard = Subject(subject.make, subject.split, subject.config, subject.seed, mark)
    train_few(heard, _STEPS + _WARM, batch=size, accumulate=1)
    return (marks[-1] - marks[_WARM - 1]) / (len(marks) - _WARM)
