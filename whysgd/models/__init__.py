"""Networks, one file for each family: `network(channels, classes, size, …)` has the name of its file.

`channels` and `size` (height and width) are those of the images, `classes` is the number of logits. Constants of a file
are read without running it. `NETWORKS` are names, with the arguments that follow. `PATTERN` stands for names with
numbers in them, without leading zeros, and `WRITTEN` shows them to users. `VARIANTS` is what a name's ending sets,
beside those of `whysgd.models.layers`: resnet18_conv_gelu. A network's `init` is that of the released code, if there is
one; see `whysgd.models.build.initialize`.
"""
