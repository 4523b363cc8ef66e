"""How a submission is laid out: the names of its files and folders."""

SUBMISSION = "submission.json"
STATEMENT = "statement.json"
"""An in-toto Statement over all other files."""
SIGNATURE = "signature.json"
"""A sigstore bundle over all files but itself, by model-signing; optional."""
FOLDERS = ("records", "predictions", "weights")
