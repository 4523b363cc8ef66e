"""``python -m unlearnbench_verifier``."""

from unlearnbench_verifier.command import run

run()
