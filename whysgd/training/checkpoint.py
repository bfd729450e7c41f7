"""Checkpoints: one safetensors file, replaced in one rename, that belongs to exactly one job.

The one before it is kept, for the case that a disk damages the newer: each has the sha256 of its tensors.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from whysgd.files import write_atomically

# step: optimizer steps made; epoch: the one the step belongs to, from 1; lr: η of the step. At the weights
# before the step, in training mode: step_loss (mean over micro-batches, nats), full_loss (with ½·weight_decay·‖θ‖² and
# the penalty's value), penalty (its value, nats), gradient_norm (L2, penalty included, before any transform),
# clipped (0 or 1), clipped_micro_batches (how many), micro_batch_norm2 (mean over drawn micro-batches of ‖∇L_B‖², for
# runs that probe it). step_length: L2, of the step made. At the weights after it, in evaluation mode: losses (nats)
# and accuracies (percent) on all splits, empty on lines without an evaluation; parameter_norm (L2).
HISTORY_COLUMNS = (
    "step", "epoch", "lr", "step_loss", "full_loss", "penalty", "gradient_norm", "clipped", "clipped_micro_batches",
    "step_length", "micro_batch_norm2", "parameter_norm", "train_loss", "train_accuracy", "validation_loss",
    "validation_accuracy", "test_loss", "test_accuracy",
)  # fmt: skip
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@dataclass
class State:
    """Everything of one seed that changes in training.

    Attributes:
        theta: parameters (P,).
        running: batch norm's running statistics (Q,).
        norms: L2 norm of each step's gradient before any transform, (steps of the run,); zeros for those to come.
        average: exponential moving average of both, (P + Q,), for runs that have it, else empty.
        optimizer: what the optimizer remembers, tensors (P,) by name; empty before the first step.
        best: θ and running statistics of the selected step, tensors by name; empty for runs that do not select.
        selected: its step, micro_batches and validation_accuracy.
        step: optimizer steps made; micro_batches: micro-batches that passed through batch norm.
        history: one dict for each line, with `HISTORY_COLUMNS`.
        noise: one dict for each measurement of the gradient noise, see `whysgd.training.noise_log`.
        ended: empty as long as the seed goes on; else "finished" (all steps made), "stopped" (at the wanted training
            accuracy) or "diverged" (a loss that is not finite).
        seconds: spent in training steps, in all sessions; sessions: how often the run was started.
        accurate: looks in a row, up to the last, that found the accuracy that ends the run.
    """

    theta: torch.Tensor
    running: torch.Tensor
    norms: torch.Tensor
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    selected: dict = field(default_factory=dict)
    step: int = 0
    micro_batches: int = 0
    seconds: float = 0.0
    sessions: int = 1
    started: str = ""
    history: list[dict] = field(default_factory=list)
    noise: list[dict] = field(default_factory=list)
    ended: str = ""
    accurate: int = 0
    average: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


_TENSORS = ("theta", "running", "norms", "average")
_NAMED = ("optimizer", "best")
_NUMBERS = ("step", "micro_batches", "seconds", "sessions", "started", "history", "noise", "ended", "selected",
            "accurate")  # fmt: skip


class Batch:
    """Seeds at the same step, as rows of one tensor for each quantity.

    Args:
        states: of these seeds, at least one. Their tensors become views of the rows.

    Attributes:
        theta, running, norms, average, optimizer: as in `State`, with a leading dimension for the seeds.
    """

    def __init__(self, states: Sequence[State]):
        self.states = list(states)
        self.theta, self.running, self.norms, self.average = (
            torch.stack([getattr(state, name) for state in states]) for name in _TENSORS
        )
        self.optimizer = {
            name: torch.stack([state.optimizer[name] for state in states]) for name in states[0].optimizer
        }
        self.share()

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        return self.states[0].step

    def share(self) -> None:
        """Make the tensors of the states views of the rows; optimizers may have made new ones since."""
        for row, state in enumerate(self.states):
            for name in _TENSORS:
                setattr(state, name, getattr(self, name)[row])
            state.optimizer = {name: tensor[row] for name, tensor in self.optimizer.items()}


def save_checkpoint(folder: Path, states: Sequence[State], identity: str) -> None:
    """Write the states of a job's seeds atomically; `identity` names the job (settings, data and code)."""
    tensors, numbers = {}, []
    for index, state in enumerate(states):
        own = {name: getattr(state, name) for name in _TENSORS}
        for part in _NAMED:
            own |= {f"{part}.{name}": tensor for name, tensor in getattr(state, part).items()}
        # Rows of a batch share their memory, which a file does not.
        tensors |= {f"{index}.{name}": tensor.cpu().clone() for name, tensor in own.items()}
        numbers.append({name: getattr(state, name) for name in _NUMBERS})
    # As a tensor of bytes, since the norms of all mini-batches may be too many for the file's header.
    tensors["numbers"] = torch.frombuffer(bytearray(json.dumps(numbers).encode()), dtype=torch.uint8)
    metadata = {"identity": identity, "sha256": tensors_digest(tensors)}
    write_atomically(folder / CHECKPOINT, lambda path: save_file(tensors, path, metadata), folder / PREVIOUS)


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of tensors and their names, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().cpu().numpy().data)
    return digest.hexdigest()


def load_checkpoint(folder: Path, identity: str, device="cpu") -> list[State] | None:
    """Return the states of the same job's seeds, or None if there are none to continue from; says why on stderr.

    A checkpoint that is damaged, or missing because the job was killed between two renames, is left for the previous.
    """
    found = [path for path in (folder / CHECKPOINT, folder / PREVIOUS) if path.is_file()]
    for path in found:
        try:
            states = _read(path, identity, device)
        except _UnfitError as error:
            after = "starting over" if path == found[-1] else f"looking at {found[-1].name}"
            print(f"{path}: {error}; {after}", file=sys.stderr)
            continue
        if path.name == PREVIOUS:
            # Or the next one to be saved would put it in the place of this one.
            (folder / CHECKPOINT).unlink(missing_ok=True)
            print(f"{path}: continuing from step {max(state.step for state in states)}", file=sys.stderr)
        return states
    return None


class _UnfitError(Exception):
    """Why a checkpoint cannot be continued from."""


def _read(path: Path, identity: str, device) -> list[State]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        if metadata["identity"] != identity:
            raise _UnfitError("belongs to other settings, data or code")
        if metadata["sha256"] != tensors_digest(tensors):
            raise _UnfitError("damaged (its content does not match its checksum)")
        states = []
        for index, numbers in enumerate(json.loads(tensors["numbers"].numpy().tobytes())):
            own = {name: tensors[f"{index}.{name}"].to(device) for name in _TENSORS}
            for part in _NAMED:
                start = f"{index}.{part}."
                own[part] = {name[len(start) :]: tensors[name].to(device) for name in tensors if name.startswith(start)}
            states.append(State(**own, **numbers))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _UnfitError(f"not readable ({error!r})") from None
    for state in states:
        state.sessions += 1
    return states


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
