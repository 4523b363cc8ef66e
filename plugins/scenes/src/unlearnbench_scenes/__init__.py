"""Images with several things in them, and small networks for them, for UnlearnBench."""
