"""What can go wrong, in one sentence each.

Every error that a user can cause is a `NiwakiError`: its text is one clear sentence that says what to change,
and the command line prints it without a traceback. Any other exception is a defect of ours.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

__all__ = ["BundleError", "CallError", "NiwakiError", "as_sentence", "first_line", "is_full", "nearest"]


class NiwakiError(Exception):
    """The work failed for a reason the user can act on (exit status 1).

    What a message quotes of a file may be anything: it is always made one readable sentence (`as_sentence`).
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(as_sentence(str(message)))


class CallError(NiwakiError):
    """The call itself was wrong: an unknown name, a wrong type, an impossible combination (exit status 2)."""


class BundleError(NiwakiError):
    """A bundle is incomplete, altered, unsafe, or newer than this runtime."""


LONGEST_MESSAGE = 800
"""Characters of a message; a longer one quotes a whole file."""


def as_sentence(text: str) -> str:
    """`text` in one line of characters that can be printed, cut in its middle where it is too long.

    >>> as_sentence("no such\\nwidth\\x00")
    'no such width?'
    """
    text = " ".join(text.split())
    text = text if text.isprintable() else "".join(map(_printable, text))
    if len(text) <= LONGEST_MESSAGE:
        return text
    head = LONGEST_MESSAGE * 2 // 3
    return f"{text[:head]} … {text[head + 3 - LONGEST_MESSAGE :]}"


def _printable(c: str) -> str:
    """Half of a surrogate pair stands for a byte of a name that is no UTF-8: shown as it is written."""
    if "\ud800" <= c <= "\udfff":
        return f"\\u{ord(c):x}"
    return c if c.isprintable() else "?"


LONGEST = 300
"""Characters that are passed on of what other people's code says."""


def first_line(error: BaseException) -> str:
    """What other people's code says when it fails: the first line, or the kind where there is no text.

    >>> first_line(ValueError("no such width\\nTraceback …"))
    'no such width'
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = "".join(c if c.isprintable() else "?" for c in line)  # foreign bytes are quoted in some texts
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


_LIKE = 2 / 3
"""Letters that two names share, of both together (Ratcliff & Obershelp 1988), for one to be taken for the
other."""
_BEGINNING = 3
"""Letters that a beginning has at least."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a wrong name: the closest valid one, or the whole list where it is short. One is close of
    which a slip of the fingers may have made it: two thirds of both names are the same letters in the same
    order, or one begins with the other.

    >>> nearest("dgits", ["digits", "glyphs"])
    "did you mean 'digits'?"
    """
    names = sorted(map(str, valid))
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=_LIKE) or _begun(str(name), names)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f"valid names: {shown}" if names else "nothing is registered"


def _begun(name: str, names: list[str]) -> list[str]:
    """The first valid name that begins with `name`, or that `name` begins with."""
    enough = [n for n in names if min(len(n), len(name)) >= _BEGINNING]
    return [n for n in enough if n.startswith(name) or name.startswith(n)][:1]


def is_full(error: OSError) -> bool:
    """Whether writing failed for want of space: a full disk, a used-up quota, a limit of files' sizes."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
