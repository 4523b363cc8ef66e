"""Controls for UnlearnBench: unlearners of which it is known what they leave of the forget set."""
