"""Optimizers, one file each: `optimizer(theta, state, gradient, lr, settings)` makes one step in place.

theta (seeds, P) holds the parameters of all seeds and `gradient` has its shape. `state` is a dictionary of tensors
of that shape, empty before the first step; the optimizer keeps in it what it remembers, and checkpoints save it. The
function has the name of its file.
"""
