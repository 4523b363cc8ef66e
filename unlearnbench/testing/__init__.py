"""The conformance kit: every sentence of the plugin contract as a check that a plugin passes or fails.

From a plugin's own tests::

    from unlearnbench.testing import parametrize_with_checks

    @parametrize_with_checks("unlearnbench-mine")
    def test_contract(check):
        check()

and from the command line ``unlearnbench check unlearnbench-mine``, which runs the same code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearnbench.testing.kit import Bound as Bound
    from unlearnbench.testing.kit import Outcome as Outcome
    from unlearnbench.testing.kit import checks_of as checks_of
    from unlearnbench.testing.kit import outcomes as outcomes
    from unlearnbench.testing.kit import parametrize_with_checks as parametrize_with_checks

__all__ = ["Bound", "Outcome", "checks_of", "outcomes", "parametrize_with_checks"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return getattr(importlib.import_module("unlearnbench.testing.kit"), name)
