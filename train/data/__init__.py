"""Readers of data sets in the formats of the public ones."""
