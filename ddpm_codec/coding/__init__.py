"""Entropy coding with integer tables: numpy and constriction, never torch."""
