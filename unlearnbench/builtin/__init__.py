"""The host's own basics, brought through the same hooks as everybody else's components."""
