"""Worked examples on real data, to be read and run, such as ``python -m viva_tensor.examples.diamonds``."""
