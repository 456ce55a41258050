"""Questions about functions of the standard library, and their answers: made of signatures and docstrings.

Every conversation begins with notes, lines out of the documentation, and what is asked stands in them, or
does not: a model is to look it up. What a function does need not be known by heart, so that functions that no
training has seen can be asked for, and whether an answer is right can be said exactly.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from niwaki.data.reading import python_docs
from niwaki.data.reading.chat_files import Conversation

__all__ = ["TOPICS", "UNKNOWN", "Entry", "Topic", "converse", "dealt", "entries", "entries_of", "sentences"]

UNKNOWN = "The notes do not say."
"""The answer where what is asked does not stand in the notes."""

_SENTENCE = re.compile(r"[A-Z][\x20-\x7e]{13,58}?\.(?=\s|$)")
_LONGEST = 28  # characters of a name, and of its arguments
_ON = 0.2  # chance that a question goes on about what the answer before was about


@dataclass(frozen=True)
class Entry:
    """One line of the documentation: `json.dumps(obj, *, indent): Serialize obj to a JSON formatted str.`"""

    name: str
    arguments: str
    sentence: str

    @property
    def line(self) -> str:
        return f"- {self.name}({self.arguments}): {self.sentence}"


class Topic(NamedTuple):
    """Something that is asked of an entry: ways to ask, ways that no training sees, ways to ask on about the
    entry of the answer before, and the answer. `{name}`, `{arguments}`, `{sentence}` are filled in."""

    asked: tuple[str, ...]
    rephrased: tuple[str, ...]
    again: tuple[str, ...]
    answer: str


TOPICS = (
    Topic(
        (
            "What does {name} do?",
            "What is {name} for?",
            "Tell me what {name} does.",
            "Explain {name} to me.",
            "Please describe {name} in one sentence.",
        ),
        ("Could you say what {name} is good for?", "I do not know {name} yet. What happens there?"),
        ("And what does it do?", "What is it for?"),
        "See {name}({arguments}): {sentence}",
    ),
    Topic(
        (
            "How is {name} called?",
            "What are the arguments of {name} again?",
            "Give me the signature of {name} please.",
            "How do I call {name} here?",
        ),
        ("Show me a call of {name} now.", "Which arguments does {name} take?"),
        ("And how is it called?", "And its arguments?"),
        "Call it as {name}({arguments})",
    ),
)


def entries() -> list[Entry]:
    """Public functions and methods with a first sentence of 15 to 60 characters, each sentence once."""
    found: dict[str, Entry] = {}
    for path, module in python_docs.modules():
        for entry in entries_of(path, module):
            found.setdefault(entry.sentence, entry)
    return sorted(found.values(), key=lambda e: e.name)


def entries_of(path: Path, module: str) -> list[Entry]:
    """The same of one module, as they stand in its source."""
    tree = python_docs.parsed(path)
    made = [] if tree is None else [_entry(name, node) for name, node in _functions(tree, module)]
    return [entry for entry in made if entry is not None]


def _functions(tree: ast.Module, module: str) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Those of a module and of its classes, one level deep, without private ones."""
    found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for one in (node, *inner):
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
                owner = f".{node.name}" if one is not node and isinstance(node, ast.ClassDef) else ""
                found.append((f"{module}{owner}.{one.name}", one))
    return found


def _entry(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Entry | None:
    words = " ".join((ast.get_docstring(node) or "").split())
    first = _SENTENCE.match(words)
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args) if a.arg not in ("self", "cls")]
    names += [f"*{given.vararg.arg}"] if given.vararg else ["*"] if given.kwonlyargs else []
    names += [a.arg for a in given.kwonlyargs] + ([f"**{given.kwarg.arg}"] if given.kwarg else [])
    arguments = ", ".join(names)
    if first is None or len(name) > _LONGEST or len(arguments) > _LONGEST:
        return None
    return Entry(name, arguments, first.group())


def sentences(texts: Iterable[str]) -> list[str]:
    """All sentences of 15 to 60 characters, each once."""
    found = (s for text in texts for s in _SENTENCE.findall(" ".join(text.split())))
    return list(dict.fromkeys(found))


def dealt(known: Sequence[Entry], said: Sequence[str], rng: random.Random, real: Container[str]) -> Entry:
    """A function that there is not: the module of one, the name of another, arguments and a sentence of
    others. Who is asked about such functions cannot know them, and has to read the notes.

    real: names of functions that there are
    """
    module, name, arguments = (rng.choice(known) for _ in range(3))
    made = f"{module.name.rpartition('.')[0]}.{name.name.rpartition('.')[2]}"
    while made in real:
        made += "_"
    return Entry(made, arguments.arguments, rng.choice(said))


def converse(
    draw: Callable[[int], Sequence[Entry]],
    rng: random.Random,
    *,
    notes: int,
    turns: int,
    missing: float,
    rephrased: bool = False,
) -> Conversation:
    """A conversation about functions: one to `notes` lines of documentation, and `turns` questions.

    draw:      n → as many functions
    missing:   chance that what is asked does not stand in the notes
    rephrased: the last question is asked in words that are kept from training
    """
    count = rng.randint(1, notes)
    drawn = draw(count + turns)
    noted, others = drawn[:count], drawn[count:]
    chat = [{"role": "system", "content": "\n".join(e.line for e in noted)}]
    before: Entry | None = None
    for i in range(turns):
        again = before is not None and rng.random() < _ON
        there = again or rng.random() >= missing
        asked = before if again and before is not None else rng.choice(noted) if there else others[i]
        topic = rng.choice(TOPICS)
        last = rephrased and i == turns - 1
        ways = topic.again if again else topic.rephrased if last else topic.asked
        filled = {"name": asked.name, "arguments": asked.arguments, "sentence": asked.sentence}
        chat += [
            {"role": "user", "content": rng.choice(ways).format(**filled)},
            {"role": "assistant", "content": topic.answer.format(**filled) if there else UNKNOWN},
        ]
        before = asked if there else None
    return chat
