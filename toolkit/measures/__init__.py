"""Perplexity, divergence, token rates, importance, and what follows from them."""
