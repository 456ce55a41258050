"""Blind pairs: two samples side by side, and which is better."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.durable_log import DurableLog
from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.store import read_jsonl
from niwaki.evaluation.preferences.ratings import ANSWERS, WINNERS
from niwaki.serving.requests import body_of, count_of
from niwaki.serving.settings import Limits
from niwaki.studio.contestants import Contestants, contestants_of
from niwaki.studio.page import Page, register_page
from niwaki.studio.questions import Question, question_of
from niwaki.studio.sources import Sources

__all__ = ["Rate"]

_LIMITS = Limits(body=1 << 14)
_LONGEST = 80
"""Characters of a rater's name."""
_MOST = 1 << 20
"""Questions of one rater."""


@register_page("rate")
class Rate(Page):
    """Answers go to `answers.jsonl` in a folder, each on the disk before the page is told so."""

    title = "Blind pairs"
    order = 0

    def __init__(self, sources: Sources) -> None:
        """Raises CallError for a share of planted questions that is none."""
        super().__init__(sources)
        if not 0.0 <= sources.checks <= 0.5:
            raise CallError(f"the share of planted questions lies in 0 … 0.5, not {sources.checks}")
        self._lock, self._next = threading.Lock(), dict[str, int]()
        self._log: DurableLog | None = None

    def lacks(self) -> str:
        if len(self.sources.contestants()) < 2:
            return "Blind pairs need two models: niwaki studio A B."
        try:
            _ = self._models
        except NiwakiError as error:
            return f"There are no blind pairs: {error}."
        return ""

    @cached_property
    def _models(self) -> Contestants:
        """Raises CallError for models that cannot be compared, and for a folder of answers to others."""
        with self._lock:
            models = contestants_of(self.sources)
            file, record = self.sources.folder / ANSWERS, models.record()
            lines = read_jsonl(file)
            before = next((line for line in reversed(lines) if line.get("kind") == "study"), None)
            if before is not None and {k: before.get(k) for k in record} != record:
                raise CallError(f"{file} holds answers to other models or another seed; choose another --out")
            for line in lines:
                if isinstance(line.get("k"), int) and line.get("kind") != "undo":
                    rater = str(line.get("rater"))
                    self._next[rater] = max(self._next.get(rater, 0), line["k"] + 1)
            return models

    def _add(self, line: dict[str, Any]) -> None:
        """On the disk when it returns. The file begins with the first answer."""
        models = self._models
        with self._lock:
            if self._log is None:
                file = self.sources.folder / ANSWERS
                begun = any(one.get("kind") == "study" for one in read_jsonl(file))
                self._log = DurableLog(file)
                if not begun:
                    self._log.add({**models.record(), "time": time.time()})
            self._log.add(line)

    def routes(self) -> list[Route]:
        return [
            Route("/rate/begin", self._begin, methods=["POST"]),
            Route("/rate/question", self._question, methods=["POST"]),
            Route("/rate/answer", self._answer, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        """`name`: who rates, or nothing for a random one, which a page sends again when it comes back."""
        body = await body_of(request, _LIMITS)
        rater = _rater(body.get("rater") or f"anonymous-{secrets.token_hex(8)}")
        await asyncio.to_thread(lambda: self._models)
        return JSONResponse({"rater": rater, "k": self._next.get(rater, 0), "goal": self.sources.goal})

    async def _question(self, request: Request) -> Response:
        """`rater`, `k`: what is asked, as the modality shows it. Names of models are not in it."""
        body = await body_of(request, _LIMITS)
        question = self._asked(body)
        sides = await asyncio.gather(
            *(asyncio.to_thread(self._shown, model, question) for model in (question.left, question.right))
        )
        words = self._models.words(self._models.asked(question.number))
        return JSONResponse({"k": body["k"], "asked": words, "left": sides[0], "right": sides[1]})

    async def _answer(self, request: Request) -> Response:
        """`winner`: `left`, `right`, `tie`, `skip` or `undo`; `ms`: how long it took. An answer that is sent
        again takes the place of the one before."""
        body = await body_of(request, _LIMITS)
        question, winner = self._asked(body), body.get("winner")
        if winner not in (*WINNERS, "skip", "undo"):
            raise CallError(f"an answer is {', '.join(WINNERS)}, skip or undo, not {winner!r:.40}")
        rater, k = _rater(body["rater"]), int(body["k"])
        line: dict[str, Any] = {"kind": "answer", "rater": rater, "k": k, "time": time.time()}
        if winner in ("skip", "undo"):
            line["kind"] = winner
        else:
            asked = self._models.asked(question.number)
            line |= {
                "question": question.name, "left": question.left, "right": question.right,
                "winner": winner, "seed": self._models.seed, "number": question.number,
                "check": question.check, "ms": max(0, count_of(body, "ms", default=0)),
                "condition": self._models.condition(asked), "words": self._models.words(asked),
            }  # fmt: skip
            texts = await asyncio.to_thread(self._texts, question)
            if texts:
                line["texts"] = texts
        await asyncio.to_thread(self._add, line)
        self._next[rater] = k if winner == "undo" else max(self._next.get(rater, 0), k + 1)
        return JSONResponse({"written": True, "k": self._next[rater]})

    def _asked(self, body: dict[str, Any]) -> Question:
        k = count_of(body, "k")
        if k is None or not 0 <= k < _MOST:
            raise CallError(f"'k' is the number of a question, 0 … {_MOST - 1}")
        models = list(self._models.models)
        return question_of(
            models, _rater(body.get("rater")), k, seed=self._models.seed, checks=self.sources.checks
        )

    def _shown(self, model: str, question: Question) -> dict[str, Any]:
        try:
            return vars(self._models.show(self._models.sample(model, question.number)))
        except NiwakiError as error:  # its name is not for the page
            raise NiwakiError(str(error).replace(model, "a model")) from None

    def _texts(self, question: Question) -> list[str]:
        """What was read, of texts."""
        shown = [
            self._models.show(self._models.sample(m, question.number))
            for m in (question.left, question.right)
        ]
        return [one.data for one in shown] if all(one.kind == "text" for one in shown) else []


def _rater(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise CallError(f"a rater's name has 1 … {_LONGEST} printable characters")
    return name.strip()
