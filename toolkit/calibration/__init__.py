"""Calibration in sequence: each weight is fitted to the inputs that the quantized layers before it really give."""
