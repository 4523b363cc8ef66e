"""Membership attacks for UnlearnBench: can the forget set still be told from rows that no model ever saw?"""
