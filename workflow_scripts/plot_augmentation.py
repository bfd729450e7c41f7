"""Rule plot_augmentation: images with their stored, augmented versions."""

from pathlib import Path

from whysgd.data.canonical import load_dataset
from whysgd.data.store import open_store
from whysgd.report.augmentation import plot_augmentation
from whysgd.report.script import logged
from whysgd.report.style import save_figure

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        dataset = load_dataset(Path(snakemake.input.manifest).parent)
        store = open_store(snakemake.input.store, verify=True)
        save_figure(plot_augmentation(dataset, store), *snakemake.output)
