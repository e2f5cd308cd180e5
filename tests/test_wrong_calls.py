"""Each public function, called wrongly three times: an error of a kind to expect, that says what was given or what is allowed."""

import pytest
from wrong_calls import CALLS, message

EXPECTED = ("ValueError", "ArtefactError", "FileNotFoundError", "FileExistsError", "TraitError", "ImportError")


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_say_what_is_wrong(name):
    for i, call in enumerate(CALLS[name]):
        says = message(call)
        kind, _, text = says.partition(": ")
        assert kind in EXPECTED, f"call {i}: {says or 'nothing was raised'}"
        assert len(text) > 25 and len(says.split()) > 5, says
