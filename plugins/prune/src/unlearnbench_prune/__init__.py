"""PRUNE for UnlearnBench: unlearning by patching, with certificates that a third party checks."""
