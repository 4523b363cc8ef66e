"""The plugin contract, sentence by sentence."""

from collections.abc import Callable

from unlearnbench.testing import parametrize_with_checks


@parametrize_with_checks("unlearnbench-timm")
def test_contract(check: Callable[[], None]) -> None:
    check()
