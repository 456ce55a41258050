"""What a message quotes of a file may be anything; the message stays one sentence that can be read."""

import pytest

from niwaki_runtime.errors import LONGEST_MESSAGE, BundleError, CallError, NiwakiError, as_sentence
from niwaki_runtime.specs import ConditionSpec, ValueSpec
from niwaki_runtime.specs.values import Levels, Tokens


@pytest.mark.parametrize("kind", [NiwakiError, CallError, BundleError])
@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("a\x00zero", "a?zero"),
        ("\x1b[31mred", "?[31mred"),
        ("\u2028break", "break"),
        ("gr\udcfcn", "gr\\udcfcn"),
        ("グリフ …", "グリフ …"),
    ],
)
def test_a_message_is_one_printable_line(kind: type[NiwakiError], quoted: str, shown: str) -> None:
    assert str(kind(f"it says {quoted}")) == f"it says {shown}"


def test_a_long_quotation_is_cut_in_its_middle() -> None:
    said = str(CallError(f"'width' cannot be {list(range(10_000))}; did you mean 64?"))
    assert len(said) == LONGEST_MESSAGE
    assert said.startswith("'width' cannot be [0, 1, 2")
    assert said.endswith("did you mean 64?")
    assert " … " in said


def test_what_is_short_enough_is_not_touched() -> None:
    text = "x" * LONGEST_MESSAGE
    assert as_sentence(text) == text
    assert len(as_sentence(text + "x")) == LONGEST_MESSAGE


@pytest.mark.parametrize("n", [0, -1, 1 << 32, 1 << 63, 1 << 70])
@pytest.mark.parametrize("values", [Tokens, Levels])
def test_numbers_of_values_that_no_data_have_are_refused(values: type, n: int) -> None:
    with pytest.raises(CallError, match=str(n)):
        values(n)


@pytest.mark.parametrize("null", [1 << 63, -(1 << 64), 0.5, float("nan"), float("inf")])
def test_a_null_that_is_no_token_is_refused(null: float) -> None:
    with pytest.raises(CallError, match="null"):
        ConditionSpec(ValueSpec("label", (), "", Tokens(4)), null)
