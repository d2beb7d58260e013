"""Checkpoints that are already quantized: `opening` finds the method, one module for each reads it."""
