"""Importance matrices: sums, files, and what they say of layers."""
