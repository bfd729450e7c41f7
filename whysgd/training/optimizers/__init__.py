"""Optimizers, one file each: a function that makes a step on the parameter vector, and its settings.

Importing this loads no torch.
"""
