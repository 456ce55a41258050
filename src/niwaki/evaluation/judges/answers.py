"""Answers: how probable real ones are after what was asked, and what a model answers itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, planted_margin
from niwaki.evaluation.equivalence.margins import SHARE
from niwaki.evaluation.equivalence.text import FEWEST
from niwaki.evaluation.equivalence.text_margins import cost_of_chance, frequencies
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.judges.base import Evidence, Figure, Judge, Margins, Section, Verdicts
from niwaki.evaluation.judges.exhibits import passages
from niwaki.evaluation.judges.forcing import forced_windows
from niwaki.evaluation.judges.reading import ANSWERS, PROMPT, refuse_other_tokens, tokens_of
from niwaki.evaluation.judges.registry import register_judge
from niwaki.evaluation.judges.running import (
    exactly,
    first_rows,
    margin_key,
    margins_from_json,
    margins_to_json,
    where,
)
from niwaki.evaluation.metrics.bleu import bleu
from niwaki.evaluation.metrics.rouge import rouge_l
from niwaki.evaluation.statistics.result import mean_interval, signature, wilson
from niwaki_runtime.chat_template import FILE, Chats
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["Answers"]

_ANSWERED = 256  # prompts that the model answers itself, at most
_SHOWN = 6
_METHOD = "5 % of the tokens of answers at random, more than serves best"

FIDELITY = Axis(
    "fidelity",
    "log-likelihood: log2 of the probability of the real answers, per byte",
    "the real answers took fewer bits per byte,",
    "the real answers took more bits per byte,",
    f"saying {100 * SHARE:.0f} % of the tokens of answers at random, by their frequency alone, would cost",
    "the model predicts answers no better than their frequencies of tokens do",
)


@register_judge("answers")
class Answers(Judge):
    """Bits per byte of the answers of a split alone, and how many of the model's own (the most probable token
    at every place, temperature 0) are the real ones. The verdict is on the first, conversation by
    conversation.

    Every conversation counts the same. Other splits of the data (`extra`) that have prompts are answered too.

    evidence: `nats` of each conversation's answers `(n,)`, `tokens` of them `(n,)`; on the validation split
              also `random`, nats where 5 % are said at random `(n,)`; elsewhere `made`, the model's own
              `(m, length)`, and `made.SPLIT` of others; facts: `bytes_per_token`
    """

    title = "Answers"
    rank = 15

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        program = runner.program(SAMPLING)
        there = {ANSWERS, PROMPT} <= set(dataset.spec.columns) and PROMPT in program.inputs
        greedy = hasattr(program.sampler, "temperature") and program.sampler.forceable
        return there and greedy and program.output.shape == dataset.spec.shape

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        """Raises CallError for data that were cut with another tokenizer, and fewer than 20 conversations."""
        refuse_other_tokens(runner.files, dataset)
        tokens = tokens_of(dataset, split, n)
        if len(tokens) < FEWEST:
            raise CallError(
                f"the {split} split of '{dataset.name}' has {len(tokens)} conversations; {FEWEST} are needed"
            )
        counted = first_rows(dataset.split(split), ANSWERS, n) > 0
        share = _frequencies(dataset)
        nats, said, frequent, at = [], [], [], 0
        for rows, log_p in forced_windows(runner, dataset, split, tokens, self.tools.on_progress):
            each, mask = np.take_along_axis(log_p, rows[..., None], -1)[..., 0], counted[at : at + len(rows)]
            at += len(rows)
            nats.append(-(each * mask).sum(1))
            said.append(np.where(mask, each, 0.0))  # what does not count is certain anyhow
            frequent.append(np.where(mask, share[rows], 1.0))
        arrays = {"nats": np.concatenate(nats), "tokens": counted.sum(1)}
        if split == self.calibrates:
            cost = cost_of_chance(np.concatenate(said), np.concatenate(frequent))
            arrays["random"] = arrays["nats"] - cost.sum(1)
        else:
            for name in (split, *dataset.extra):
                key = "made" if name == split else f"made.{name}"
                arrays[key] = _answered(runner, dataset, name, min(n, _ANSWERED), seed)
        size = dataset.split(split).attributes.get("bytes")
        total = (
            float(size[: len(tokens)].double().mean()) if size is not None else float(counted.sum(1).mean())
        )
        facts = {**where(runner), "bytes_per_token": total / float(counted.sum(1).mean())}
        return Evidence(self.name, split, len(tokens), seed, arrays, facts)

    def samples_made(self, n: int) -> int:
        return min(n, _ANSWERED)

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        cost = _bits(evidence, "nats")
        share = np.log(_frequencies(dataset))
        rows = tokens_of(dataset, evidence.split, evidence.n)
        counted = first_rows(dataset.split(evidence.split), ANSWERS, evidence.n) > 0
        blind = _per_byte(evidence, -(share[rows] * counted).sum(1))
        perplexity = np.exp(evidence.arrays["nats"].sum() / evidence.arrays["tokens"].sum())
        figures = [
            Figure(
                "bits per byte of answers", float(cost.mean()), mean_interval(cost), "fidelity", "lower",
                float(blind.mean()), "frequencies of tokens alone",
            ),
            Figure("perplexity of answers, per token", float(perplexity)),
        ]  # fmt: skip
        details: dict[str, Any] = {"bits_per_byte": float(cost.mean()), "perplexity": float(perplexity)}
        for name in ("made", *(f"made.{extra}" for extra in dataset.extra)):
            if name in evidence.arrays:
                split = name.partition(".")[2] or evidence.split
                more, said = _figures(dataset, split, evidence.arrays[name], split != evidence.split)
                figures += more
                details |= said
        text = signature(
            "answers", split=evidence.split, conversations=evidence.n, seed=evidence.seed, temperature=0,
            data=dataset.fingerprint[:12],
        )  # fmt: skip
        return Section(self.name, self.title, tuple(figures), details, (), text)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        # The damage is of 5 % already: it is the whole margin.
        found = planted_margin(_bits(evidence, "random") - _bits(evidence, "nats"), share=1.0)
        return Margins(
            self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json({"fidelity": found})
        )

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        first, second = _bits(before, "nats"), _bits(after, "nats")
        axes = item_verdicts(
            {"fidelity": Scores(FIDELITY, -first, -second)},
            margins_from_json(margins.axes),
            name=self.name, seed=before.seed,
            signature=signature("paired-answers", n=before.n, seed=before.seed, share=SHARE,
                                data=dataset.fingerprint[:12], margins=margins.key[:8]),
            identical=np.array_equal(before.arrays["nats"], after.arrays["nats"]),
        )  # fmt: skip
        details: dict[str, Any] = {
            "bits_per_byte": {"before": float(first.mean()), "after": float(second.mean())},
            "paired": True,
        }
        if "made" in before.arrays and "made" in after.arrays:
            for side, evidence in (("before", before), ("after", after)):
                _, said = _figures(dataset, evidence.split, evidence.arrays["made"], False)
                details.setdefault("right", {})[side] = said["right"]
        return Verdicts(self.name, before.n, axes, details, {"rise": second - first})


def _frequencies(dataset: Dataset) -> np.ndarray:
    """Share of each token among the answers of the training split `(V,)`."""
    counted = dataset.train.columns[ANSWERS].data.cpu().numpy().astype(bool)
    return frequencies(tokens_of(dataset, "train")[counted], dataset.spec.levels)


def _bits(evidence: Evidence, name: str) -> np.ndarray:
    return _per_byte(evidence, evidence.arrays[name])


def _per_byte(evidence: Evidence, nats: np.ndarray) -> np.ndarray:
    """Bits per byte of each conversation `(n,)`."""
    return nats / evidence.arrays["tokens"] / (np.log(2.0) * evidence.facts["bytes_per_token"])


def _answered(runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> np.ndarray:
    """What the model answers to the first prompts of a split, as whole samples `(m, length)`."""
    prompts = first_rows(dataset.split(split), PROMPT, n)
    with exactly():
        made = runner.run(SAMPLING, len(prompts), seed=seed, inputs={PROMPT: prompts}, temperature=0.0)
    return np.asarray(runner.backend().numpy(made)).astype(np.int64)


def _texts(dataset: Dataset, split: str, rows: np.ndarray) -> list[str]:
    """The last answers in samples, as text."""
    prompts = first_rows(dataset.split(split), PROMPT, len(rows))
    tokenizer = Tokenizer(dataset.files[TOKENIZER]) if TOKENIZER in dataset.files else None
    end, found = getattr(dataset.spec.values, "end", None), []
    for row, prompt in zip(rows, prompts, strict=True):
        said = row[int((prompt >= 0).sum()) :].tolist()
        said = said[: said.index(end)] if end in said else said
        found.append(tokenizer.decode(said) if tokenizer else " ".join(map(str, said)))
    return found


def _figures(
    dataset: Dataset, split: str, made: np.ndarray, named: bool
) -> tuple[list[Figure], dict[str, Any]]:
    """What a model's own answers are worth, beside the real ones."""
    answers = _texts(dataset, split, made)
    truth = _texts(dataset, split, tokens_of(dataset, split, len(made)))
    n, right = len(answers), [a == b for a, b in zip(answers, truth, strict=True)]
    words = [a.split() for a in answers], [t.split() for t in truth]
    alike, of = rouge_l(*words), f" (split '{split}')" if named else ""
    hits = sum(right)
    figures = [
        Figure(
            f"answers that are the real ones, word for word{of}",
            hits / n,
            wilson(hits, n),
            "fidelity",
            "higher",
        ),
    ]
    if named:
        return figures, {f"right.{split}": hits / n}
    figures += [
        Figure("ROUGE-L of answers", alike.value, alike.interval, "fidelity", "higher"),
        Figure("BLEU of answers", bleu(words[0], [[t] for t in words[1]]).value, None, "fidelity", "higher"),
        Figure(
            "different answers / all", len(set(answers)) / n, None, "diversity", "higher",
            len(set(truth)) / n, "the real answers",
        ),
    ]  # fmt: skip
    order = [*[i for i in range(n) if not right[i]][:_SHOWN], *[i for i in range(n) if right[i]][:_SHOWN]]
    shown = [
        passages(
            "The real answer" if right[i] else "Another answer than the real one",
            [("asked", _asked(dataset, split, i)), ("answer", answers[i]), ("real answer", truth[i])],
        )
        for i in order
    ]
    return figures, {"right": hits / n, "exhibits": shown}


def _asked(dataset: Dataset, split: str, i: int) -> str:
    prompt = first_rows(dataset.split(split), PROMPT, i + 1)[i]
    prompt = prompt[prompt >= 0]
    if FILE in dataset.files and TOKENIZER in dataset.files:
        return Chats.of(dataset.files).said(prompt).removesuffix("assistant: ").rstrip("\n")
    return " ".join(map(str, prompt.tolist()))
