"""Count what the networks of the shipped scales compute, and write whysgd/study/networks.json."""

import json

from whysgd.data.shape import images_of
from whysgd.files import write_text
from whysgd.models.count import count
from whysgd.study.config import load_config
from whysgd.study.networks import TABLE
from whysgd.study.papers import expand
from whysgd.study.registry import network

# A scale's rules map every paper, whichever of them its file runs.
EVERY = {"papers": ["geiping2022", "novack2023", "iyer2023", "simsekli2019", "seminar"]}
OVERLAYS = ([], ["config/small.yaml"], ["config/midi.yaml"], ["config/paper.yaml"])


def shapes() -> set[tuple[str, int, int, int]]:
    """Return each network of the shipped scales with its images; a formula tells those that are fully connected."""
    found = set()
    for overlays in OVERLAYS:
        config = load_config(overlays, EVERY)
        for spec in expand(config).values():
            images = images_of(config, spec.dataset)
            if network(spec.model)[0] != "fully_connected":
                found.add((spec.model, images.channels, images.size, images.classes))
    return found


if __name__ == "__main__":
    lines = [f'"{" ".join(map(str, shape))}": {json.dumps(count(*shape))}' for shape in sorted(shapes())]
    write_text(TABLE, "{\n" + ",\n".join(lines) + "\n}\n")
