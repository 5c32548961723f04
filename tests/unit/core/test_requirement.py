"""Requirements of strangers are such that every version in them can be compared."""

from __future__ import annotations

import pytest
from packaging.requirements import InvalidRequirement

from plinth.core.requirement import requirement

DIGITS = "9" * 5000


@pytest.mark.parametrize("text", ["a", "a[b]>=1,<2; python_version < '4'", f"a>={'1' * 200}"])
def test_a_requirement_is_read_as_packaging_reads_it(text: str) -> None:
    found = requirement(text)
    assert found.name == "a"
    assert found.specifier.contains("1") in (True, False)


@pytest.mark.parametrize("text", ["a b", "", f"a>={DIGITS}", f"a>=1,>={DIGITS}", f"a=={DIGITS}.*"])
def test_one_that_cannot_be_compared_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequirement) as raised:
        requirement(text)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("text", ["demo===${TOKEN}", 'demo; python_version < "${TOKEN}"'])
def test_a_variable_that_pip_would_replace_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequirement, match="a variable of the environment"):
        requirement(text)
