"""Checkpoints: one safetensors file, replaced in one rename, that belongs to exactly one job."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from whysgd.files import write_atomically

FILE = "checkpoint.safetensors"


@dataclass
class State:
    """Everything that changes in training.

    Attributes:
        theta, momentum, running: parameters (P,), momentum buffer (P,; zeros before the first step),
            batch norm's running statistics (Q,).
        norms: L2 norm of each step's gradient before any transform, (steps of the run,); zeros for those to come.
        step: optimizer steps made; blocks: blocks that passed through batch norm.
        history: one dict for each line.
        noise: one dict for each measurement of the gradient noise, see `whysgd.training.noise_log`.
        ended: empty as long as the run goes on; else "finished" (all steps made), "stopped" (at the wanted training
            accuracy) or "diverged" (a loss that is not finite).
        seconds: spent in training steps, in all sessions; sessions: how often the run was started.
    """

    theta: torch.Tensor
    momentum: torch.Tensor
    running: torch.Tensor
    norms: torch.Tensor
    step: int = 0
    blocks: int = 0
    seconds: float = 0.0
    sessions: int = 1
    started: str = ""
    history: list[dict] = field(default_factory=list)
    noise: list[dict] = field(default_factory=list)
    ended: str = ""


_TENSORS = ("theta", "momentum", "running", "norms")
_NUMBERS = ("step", "blocks", "seconds", "sessions", "started", "history", "noise", "ended")


def save_checkpoint(folder: Path, states: Sequence[State], identity: str) -> None:
    """Write the states of a job's runs atomically; `identity` names the job (settings, data and code)."""
    tensors, numbers = {}, []
    for index, state in enumerate(states):
        # Rows of a stack share their memory, which a file does not.
        tensors |= {f"{index}.{name}": getattr(state, name).clone() for name in _TENSORS}
        own = {name: getattr(state, name) for name in _NUMBERS}
        # The norms of all mini-batches may be too many for the file's header.
        for place, one in enumerate(own["noise"]):
            tensors[f"{index}.noise.{place}"] = torch.tensor(one["norms"], dtype=torch.float64)
        numbers.append(own | {"noise": [{**one, "norms": None} for one in own["noise"]]})
    metadata = {"identity": identity, "states": json.dumps(numbers)}
    write_atomically(folder / FILE, lambda path: save_file(tensors, path, metadata))


def load_checkpoint(folder: Path, identity: str, device="cpu") -> list[State] | None:
    """The states of the same job's runs, or None if there are none to continue from; says why on stderr."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                print(f"{path}: belongs to other settings, data or code; starting over", file=sys.stderr)
                return None
            states = []
            for index, numbers in enumerate(json.loads(metadata["states"])):
                for place, one in enumerate(numbers["noise"]):
                    one["norms"] = file.get_tensor(f"{index}.noise.{place}").tolist()
                states.append(State(**{name: file.get_tensor(f"{index}.{name}") for name in _TENSORS}, **numbers))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"{path}: not readable ({error}); starting over", file=sys.stderr)
        return None
    for state in states:
        state.sessions += 1
    return states


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished run."""
    (folder / FILE).unlink(missing_ok=True)
