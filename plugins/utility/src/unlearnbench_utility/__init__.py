"""Utility and agreement: what an unlearned model is still good for, and how close it is to gold and original."""
