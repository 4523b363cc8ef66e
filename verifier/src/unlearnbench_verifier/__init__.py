"""Checks certificates of unlearning on its own: numpy and the standard library, nothing of what made them."""
