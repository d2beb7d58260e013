"""Checkpoints that are quantized already: a module for every format, and `registry`, which finds the one of a checkpoint."""
