"""`whysgd build-dataset` and `whysgd build-store`."""

import sys
from pathlib import Path

from whysgd.commands._shared import a_json, a_path, add_command, add_config_flags, config_of, is_a
from whysgd.errors import UserError
from whysgd.results.paths import dataset_folder, store_file
from whysgd.study.names import NEEDED, is_name
from whysgd.study.settings import Count, Index

DATASETS = [
    "whysgd build-dataset digits",
    "whysgd build-dataset my_images --configfile config/image_folder.yaml",
    "whysgd build-dataset cifar10 --config data_dir=~/data",
]
STORES = [
    "whysgd build-store cifar10 --copies 10 --crop-padding 4 --flip",
    "whysgd build-store digits --copies 2 --crop-padding 1 --clean-first --seed 1",
]


def add(commands) -> None:
    """Add the commands."""
    told = "bring a data set into its canonical form"
    build = add_command(commands, "build-dataset", _build_dataset, told, DATASETS)
    build.add_argument("dataset", help="a built-in name or an entry of the configuration's `datasets`")
    add_config_flags(build, scale=None, seed=None)
    build.add_argument("--datasets", type=a_json, help="its `datasets` as JSON, instead of --configfile")
    build.add_argument("--data-dir", help="folder for downloads, instead of the configuration's")
    build.add_argument("--out", type=a_path, help="default: results/data/<dataset>")

    told = "write augmented copies of a data set into one LMDB file"
    store = add_command(commands, "build-store", _build_store, told, STORES)
    store.add_argument("dataset", help="its name, for the default folders")
    store.add_argument("--copies", type=is_a(Count), required=True, help="how many of each image")
    store.add_argument("--crop-padding", type=is_a(Index), default=4, help="pixels of the random crop")
    store.add_argument("--flip", action="store_true", help="flip half of the images")
    store.add_argument("--clean-first", action="store_true", help="the first copy is the images as they are")
    store.add_argument("--seed", type=is_a(Index), default=0)
    store.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
    store.add_argument("--out", type=a_path, help="file (default: results/stores/<dataset>/<what it is>.lmdb)")


def _build_dataset(options) -> None:
    from whysgd.data.build import build_dataset

    given = {"data_dir": options.data_dir, "datasets": options.datasets}
    config = config_of(options, **{key: value for key, value in given.items() if value is not None})
    folder = options.out or dataset_folder(options.dataset)
    own = config["datasets"].get(options.dataset)
    manifest = build_dataset(options.dataset, own, Path(config["data_dir"]), folder)
    counts = f"{manifest['train_images']} training and {manifest['test_images']} test images"
    print(f"{folder}: {manifest['label']}, {counts} of {len(manifest['classes'])} classes")


def _build_store(options) -> None:
    from whysgd.data.build_store import build_store, write_description
    from whysgd.data.canonical import load_dataset
    from whysgd.study.spec import StoredCopies

    if not is_name(options.dataset):
        raise UserError(f"build-store: {options.dataset!r}: {NEEDED}")
    keys = ("copies", "crop_padding", "flip", "seed", "clean_first")
    plan = StoredCopies(**{key: getattr(options, key) for key in keys})
    dataset = load_dataset(options.data or dataset_folder(options.dataset))
    path = options.out or store_file(options.dataset, plan.name)
    store = build_store(dataset, plan, path, progress=sys.stderr.isatty())
    write_description(store, path)
    print(f"{path}: {len(store):,} images of {dataset.manifest['label']}, {path.stat().st_size / 1e6:.1f} MB")
