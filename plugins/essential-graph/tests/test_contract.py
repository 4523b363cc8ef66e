"""The plugin contract, sentence by sentence."""

from unlearnbench.testing import Bound, parametrize_with_checks


@parametrize_with_checks("unlearnbench-essential-graph")
def test_contract(check: Bound) -> None:
    check()
