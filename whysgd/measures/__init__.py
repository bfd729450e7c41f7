"""Measures, one file each: `measure(model, images, …)` returns an `Estimate` for each quantity; its name is the file's.

`images` are those of the training set, without augmentation. Arguments with defaults are options. The network is taken
in evaluation mode, and left as it was. The constant `QUANTITIES` says what is reported: label, unit, and which values
the papers call flatter or quieter, if any, as in `whysgd.measures.catalog.Quantity`. It is read without being run.
"""
