"""What this machine's devices are called, found out without torch."""

import torch

from whysgd.results import machine
from whysgd.training.device import device_name


def test_this_machines_device_is_found(tmp_path):
    for place, name in enumerate(("NVIDIA H100 80GB HBM3", "NVIDIA L4")):
        (tmp_path / f"0000:{place}1:00.0").mkdir()
        (tmp_path / f"0000:{place}1:00.0" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 16\n")
    assert machine.gpu_names(tmp_path) == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert machine.gpu_names(tmp_path / "none") == []
    assert machine.device_here("cpu") == device_name(torch.device("cpu"))
