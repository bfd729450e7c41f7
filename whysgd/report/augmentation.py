"""The augmentation grid: one training image of each class, a row for each, with its stored versions beside it."""

import numpy as np

from whysgd.data.canonical import Dataset
from whysgd.data.store import Store
from whysgd.report.style import STYLE, add_heading, plt

IMAGE = 0.8  # inches
MOST = 10  # classes and copies shown


@plt.rc_context(STYLE)
def plot_augmentation(dataset: Dataset, store: Store):
    """Return the figure of the images of a data set, on the left, and their augmented copies in a store."""
    labels = dataset.train.labels
    shown = [int(np.flatnonzero(labels == c)[0]) for c in range(len(store.classes)) if (labels == c).any()][:MOST]
    copies = min(store.copies, MOST)
    titles = ["original", *("clean" if store.meta["clean_first"] and c == 0 else f"{c}" for c in range(copies))]
    size = (max(4.0, IMAGE * (copies + 1) + 1), IMAGE * len(shown) + 1)
    figure, axes = plt.subplots(len(shown), copies + 1, figsize=size, squeeze=False)
    for line, number in zip(axes, shown, strict=True):
        versions = store.take(number + store.images * np.arange(copies))
        for axis, image in zip(line, [dataset.train.images[number], *versions], strict=True):
            # Of images (C, H, W) with other than one or three channels, the first is shown.
            axis.imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(store.classes[labels[number]], rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    crop, flip = store.meta["crop_padding"], "flip" if store.meta["flip"] else "no flip"
    kept = f"{copies} of {store.copies}" if copies < store.copies else f"{copies}"
    add_heading(figure, store.meta["source"]["label"], f"{kept} stored copies: crop padding {crop}, {flip}")
    return figure
