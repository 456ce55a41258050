"""How models are taken up by the property tests: one that is broken fails its own tests, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from model_cases import DIGITS, Case, fits

from niwaki.core.contract import CallError
from niwaki.models import registry


@pytest.fixture
def enter() -> Iterator[Callable[[type[Exception]], str]]:
    """Registers a model that raises such an error when it is built."""
    registry.names()
    known = dict(registry._MODELS._known)

    def enter(error: type[Exception]) -> str:
        class Broken(registry.registered("dcgan")):  # type: ignore[misc]
            def __init__(self, config: Any, spec: Any) -> None:
                raise error("it is not for these data")

        registry.register("broken")(Broken)
        return "broken"

    yield enter
    registry._MODELS._known.clear()
    registry._MODELS._known.update(known)


def test_a_model_refuses_data_by_a_call_error(enter: Callable[[type[Exception]], str]) -> None:
    assert not fits(Case(enter(CallError), "digits", DIGITS))


@pytest.mark.parametrize("error", [ValueError, TypeError, IndexError])
def test_another_error_is_met_by_the_tests_of_that_case(
    error: type[Exception], enter: Callable[[type[Exception]], str]
) -> None:
    case = Case(enter(error), "digits", DIGITS)
    assert fits(case)  # so that it is tested,
    with pytest.raises(error):
        case.model()  # and fails there
