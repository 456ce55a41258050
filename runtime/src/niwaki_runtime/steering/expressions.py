"""Regular expressions as trees: the part of Python's `re` that says which texts there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from niwaki_runtime.errors import CallError, first_line
from niwaki_runtime.steering.characters import Span, spans

__all__ = ["Characters", "Choice", "Node", "Repeat", "Row", "parse"]


@dataclass(frozen=True)
class Characters:
    """One of these characters."""

    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Row:
    """One after another."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """One of these."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """From `least` to `most` times; None has no end."""

    part: Node
    least: int
    most: int | None


Node = Characters | Row | Choice | Repeat

_COUNTED = re.compile(r"\{(\d*)(,?)(\d*)\}")
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|0[0-7]{0,2}|[1-3][0-7]{2}|\D)",
    re.DOTALL,
)
_GROUP = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))")
_PLACES = {"^", "$"}
_PLACE_ESCAPES = {r"\A", r"\Z", r"\b", r"\B", r"\z"}


def parse(expression: str) -> Node:
    """An expression as a tree. A text fulfils it where `re.fullmatch` says so.

    Raises CallError for what is no expression, and for what looks around: places (`^`, `$`, `\\b`), back
    references, lookahead, flags, possessive repeats.
    """
    try:
        re.compile(expression)
    except (re.error, OverflowError) as error:
        raise CallError(f"{expression!r:.80} is no regular expression: {first_line(error)}") from error
    except RecursionError as error:
        raise CallError("the expression is nested too deeply") from error
    reader = _Reader(expression)
    node = reader.choice()
    assert reader.at == len(expression)
    return node


class _Reader:
    """By recursive descent, of an expression that `re` has read without complaint."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def choice(self) -> Node:
        parts = [self.row()]
        while self.text.startswith("|", self.at):
            self.at += 1
            parts.append(self.row())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def row(self) -> Node:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.repeated())
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def repeated(self) -> Node:
        node = self.atom()
        times = self.times()
        if times is None:
            return node
        if self.text.startswith("+", self.at):
            raise self.refusal("a possessive repeat")
        if self.text.startswith("?", self.at):
            self.at += 1  # few or many first: the texts are the same
        return Repeat(node, *times)

    def times(self) -> tuple[int, int | None] | None:
        sign = self.text[self.at : self.at + 1]
        if sign in ("*", "+", "?"):
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        counted = _COUNTED.match(self.text, self.at)
        if not counted or counted.group() == "{}":
            return None
        least, comma, most = counted.groups()
        if not comma and most:
            return None
        self.at = counted.end()
        if not comma:
            return int(least), int(least)
        return int(least or 0), int(most) if most else None

    def atom(self) -> Node:
        sign = self.text[self.at]
        if sign == "(":
            group = _GROUP.match(self.text, self.at)
            if not group:
                raise self.refusal(f"'{self.text[self.at : self.at + 4]}'")
            self.at = group.end()
            node = self.choice()
            self.at += 1  # the closing bracket
            return node
        if sign in _PLACES:
            raise self.refusal(f"the place '{sign}'")
        if sign == "[":
            return self.characters(_CLASS)
        if sign == ".":
            self.at += 1
            return Characters(spans("."))
        if sign == "\\":
            return self.characters(_ESCAPE)
        self.at += 1
        return Characters(spans(re.escape(sign)))

    def characters(self, form: re.Pattern[str]) -> Node:
        found = form.match(self.text, self.at)
        if not found:
            raise self.refusal(f"'{self.text[self.at : self.at + 2]}'")
        if found.group() in _PLACE_ESCAPES:
            raise self.refusal(f"the place '{found.group()}'")
        self.at = found.end()
        return Characters(spans(found.group()))

    def refusal(self, what: str) -> CallError:
        return CallError(
            f"{what} in {self.text!r:.80} does not say which texts there are; an expression here is of "
            "characters, classes, groups, choices and repeats, and means the whole text"
        )
