"""What do building and reading a store cost, against the obvious ways?

    python benchmarks/store.py --data DIR       a data set in canonical form (CIFAR-10, say); without it random images
    python benchmarks/store.py --copies 40      other than ten copies

The obvious build sends image by image through torchvision's transforms and one put of LMDB each (of a part: its time
grows evenly). Reading is compared with one plain file of the same size and with a folder of PNG files (of a part), all
of them in the memory of the operating system already. Writes results/benchmarks/store.{json,md}.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np
import torch
from common import median_ratio, write_table
from PIL import Image
from torchvision.transforms import v2

from whysgd.data.build_store import build_store
from whysgd.data.canonical import Dataset, Split, load_dataset
from whysgd.data.store import open_store, verify_file
from whysgd.study.spec import StoredCopies

PART = 20_000
ROUNDS = 3


def random_images(count: int) -> Dataset:
    random = np.random.default_rng(0)
    split = Split(random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, count))
    source = {"name": "random", "label": "random images of 32×32", "sha256": ""}
    return Dataset(split, split, {**source, "classes": list("0123456789"), "mean": [0.5] * 3, "std": [0.25] * 3})


def timed(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def obvious_build(images: torch.Tensor, path: Path) -> None:
    """One image at a time, one put each, a thousand in a transaction."""
    change = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 34, lock=False)
    for start in range(0, len(images), 1000):
        with environment.begin(write=True) as transaction:
            for number in range(start, min(start + 1000, len(images))):
                transaction.put(b"%08d" % number, change(images[number]).numpy().tobytes())
    environment.sync(True)
    environment.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--images", type=int, default=50_000, help="without --data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset(options.data) if options.data else random_images(options.images)
    plan = StoredCopies(copies=options.copies, crop_padding=4, flip=True)
    images = torch.from_numpy(dataset.train.images)
    part = images[: min(PART, len(images))]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder, "store.lmdb")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        build, store = timed(lambda: build_store(dataset, plan, path))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rates = []
        for round_ in range(ROUNDS):
            obvious, _ = timed(lambda r=round_: obvious_build(part, Path(folder, f"obvious-{r}")))
            ours, _ = timed(lambda r=round_: build_store(dataset, plan, Path(folder, f"ours-{r}.lmdb")))
            rates.append((len(store) / ours, len(part) / obvious))
            for file in (*Path(folder).glob("obvious-*"), *Path(folder).glob("ours-*")):
                file.unlink()
        ours_rate, obvious_rate = (sorted(column)[ROUNDS // 2] for column in zip(*rates, strict=True))

        plain = Path(folder, "plain")
        store.read().tofile(plain)
        raw, size = plain.stat().st_size, path.stat().st_size
        pngs = Path(folder, "png")
        pngs.mkdir()
        for number, image in enumerate(store.take(np.arange(2000))):
            Image.fromarray(image.transpose(1, 2, 0)).save(pngs / f"{number}.png")

        def read_pngs():
            return [np.asarray(Image.open(pngs / f"{number}.png")) for number in range(2000)]

        reads = {"store": lambda: open_store(path).read(), "plain": lambda: np.fromfile(plain, np.uint8)}
        times = {name: [timed(work)[0] for _ in range(ROUNDS)] for name, work in reads.items()}
        png = sorted(timed(read_pngs)[0] for _ in range(ROUNDS))[1] / 2000 * len(store)
        verify, _ = timed(lambda: verify_file(path))
        order = np.random.default_rng(0).integers(0, len(store), 20_000)
        single, _ = timed(lambda: [store.take(order[place : place + 1]) for place in range(len(order))])
        batched, _ = timed(lambda: [store.take(order[start : start + 128]) for start in range(0, len(order), 128)])
    read, none = sorted(times["store"])[1], float("nan")
    lines = [
        {"what": f"build {len(store):,} images, verified [s]", "store": build, "against": none, "ratio": none},
        {"what": "build, against image by image [images/s]", "store": ours_rate, "against": obvious_rate,
         "ratio": ours_rate / obvious_rate},
        {"what": "read all, against a plain file [MB/s]", "store": raw / read / 1e6,
         "against": raw / sorted(times["plain"])[1] / 1e6, "ratio": median_ratio(times["plain"], times["store"])},
        {"what": "read all, against PNG files [MB/s]", "store": raw / read / 1e6, "against": raw / png / 1e6,
         "ratio": png / read},
        {"what": "read all [s]", "store": read, "against": none, "ratio": none},
        {"what": "verify [s]", "store": verify, "against": none, "ratio": none},
        {"what": "random access, in batches of 128, against one by one [images/s]", "store": len(order) / batched,
         "against": len(order) / single, "ratio": single / batched},
        {"what": "size, against raw [MB]", "store": size / 1e6, "against": raw / 1e6, "ratio": size / raw},
        {"what": "memory of the process, after and before the build [GiB]", "store": peak, "against": before,
         "ratio": peak / before},
    ]  # fmt: skip
    heading = f"{dataset.manifest['label']}, {options.copies} copies of {store.images:,} images; one process."
    write_table("store", heading, lines)


if __name__ == "__main__":
    main()
