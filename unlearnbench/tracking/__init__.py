"""Where records go besides their folder: the MLflow log and a plot. Knows records, not methods.

Importing this package or its modules loads neither mlflow nor matplotlib; using them does.
"""
