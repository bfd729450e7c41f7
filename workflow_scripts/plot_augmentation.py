"""Rule plot_augmentation: images with their stored, augmented versions."""

from pathlib import Path

from whysgd.data.canonical import load_dataset
from whysgd.data.store import open_store
from whysgd.report import figures
from whysgd.report.script import logged


def plot_augmentation(manifest: str, store: str, outputs: list[str]) -> None:
    figure = figures.plot_sheet(load_dataset(Path(manifest).parent), open_store(store, verify=True))
    figures.save_figure(figure, outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_augmentation(snakemake.input.manifest, snakemake.input.store, snakemake.output)
