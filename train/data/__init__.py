"""Readers of data sets as they lie on disk, in the formats of the public ones."""
