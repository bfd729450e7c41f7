"""One loop for mini-batch and full-batch training: accumulate over blocks, penalty, transform, step."""

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import torch

from whysgd.data.augmentation import Normalizer
from whysgd.data.blocks import step_range
from whysgd.data.canonical import Dataset
from whysgd.data.feed import Feed, fits
from whysgd.data.store import Store
from whysgd.errors import UserError
from whysgd.measures.accuracy import evaluate
from whysgd.models.build import build_model
from whysgd.models.catalog import architecture
from whysgd.streams import stream
from whysgd.study.spec import (
    MicroBatchPenalty,
    Penalty,
    RunSpec,
    blocks_per_epoch,
    epoch_images,
    steps_per_epoch,
    total_steps,
    trained_images,
)
from whysgd.training.checkpoint import HISTORY_COLUMNS, State
from whysgd.training.dense import dense_gradients
from whysgd.training.device import allow_tf32, engine_on, memory_of, precision_on
from whysgd.training.gradients import ALONE, StackSums, StepGradient, step_gradient
from whysgd.training.graphs import CudaCapture, GraphedSums
from whysgd.training.grouping import Grouping, choose_grouping, copies_that_fit
from whysgd.training.micro_batch import penalty_noise
from whysgd.training.noise_log import measured_noise, noise_steps
from whysgd.training.objective import Objective
from whysgd.training.ranks import Ranks
from whysgd.training.schedules import learning_rate
from whysgd.training.sgd import sgd_step
from whysgd.training.transforms import Context, transforms_of

# How many numbers the gradients, and the images, of the blocks may have whose noise is computed at once.
NOISE_NUMBERS = 1 << 20


class Trainer:
    """One run in memory: data, network and state. `step` makes one step; nothing here touches the disk.

    Args:
        spec: what to run.
        dataset: the canonical data set it names.
        device: where tensors live.
        blocks_at_once: most blocks in one stack; None chooses by size, 1 is the plain loop.
        grouping: how they are computed, too; None chooses.
        store: the stored copies that the run trains on, if it does.
        dtype: of weights and sums, and, unless the precision is lower, of all arithmetic.
        ranks: the processes that share each step's blocks.
        engine: "eager", operation by operation; "graph", each stack a CUDA graph; "compiled", by a compiler and, on
            a GPU, also as a graph; "auto": compiled on a GPU, eager on a CPU.
        images_on: "device", "host" or "auto", see `whysgd.data.feed`.
        norms: for exter_graft, the gradient norm of the other run at each step, (steps,).

    Raises:
        UserError: the run does not fit the images, or the device.
    """

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        device="cpu",
        blocks_at_once: int | None = None,
        dtype=torch.float32,
        ranks: Ranks = ALONE,
        engine: str = "auto",
        images_on: str = "auto",
        grouping: Grouping | None = None,
        store: Store | None = None,
        norms: np.ndarray | None = None,
    ):
        count = trained_images(spec, len(dataset.train.images))
        images, labels = dataset.train.images[:count], dataset.train.labels[:count]
        grafts = spec.transform is not None and spec.transform.name == "exter_graft"
        for name, needed, given in (("store", spec.store is not None, store), ("transform", grafts, norms)):
            if needed != (given is not None):
                raise UserError(f"{spec.run}: {name}: the run and what it is given do not agree")
        if not 1 <= spec.block <= count:
            raise UserError(f"{spec.run}: block = {spec.block}: must be at most {count}, the images trained on")
        if spec.noise is not None and count < 2 * spec.block:
            raise UserError(
                f"{spec.run}: noise: needs two full blocks of {spec.block} images, there are {count} images"
            )
        self.spec, self.device, self.ranks = spec, torch.device(device), ranks
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        statistics = asdict(spec.normalize) if spec.normalize else dataset.manifest
        mean, std = statistics["mean"], statistics["std"]
        if not len(mean) == len(std) == images.shape[1]:
            raise UserError(f"{spec.run}: normalize: has {len(mean)} channels, the images have {images.shape[1]}")
        self.normalize = Normalizer(mean, std, dtype, device)
        self.precision = precision_on(spec, self.device)
        self.engine = engine_on(engine, self.device)
        self.classes = len(dataset.manifest["classes"])
        model = build_model(spec.model, images.shape[1], self.classes, spec.seed, images.shape[2])
        model.to(self.device, dtype)
        self.objective = Objective(model, torch.bfloat16 if self.precision == "bf16" else None, spec.loss)
        theta = self.objective.parameters.vector({n: p.detach() for n, p in model.named_parameters()})
        buffers = (
            self.objective.buffers.vector(dict(model.named_buffers())) if self.objective.buffers.names else theta[:0]
        )
        self.images = count
        self.blocks = blocks_per_epoch(spec, self.images)
        self.steps_per_epoch = steps_per_epoch(spec, self.images)
        self.total = total_steps(spec, self.images)
        self.state = State(theta, torch.zeros_like(theta), buffers.clone(), theta.new_zeros(self.total))
        self.norms = None if norms is None else torch.from_numpy(norms).to(self.device, dtype)
        points = min(spec.evaluations, self.total)
        self.evaluation_steps = {round((i + 1) * self.total / points) for i in range(points)}
        per_step = -(-(spec.blocks_per_step or self.blocks) // ranks.size)
        # A penalty that is sampled has a pass of its own.
        self.sampled = getattr(spec.penalty, "sample", None)
        over_blocks = replace(spec, penalty=None) if self.sampled else spec
        self.grouping = grouping or choose_grouping(
            over_blocks, self.objective, images.shape[1:], per_step, memory_of(self.device)
        )  # fmt: skip
        if blocks_at_once is not None:
            self.grouping = replace(self.grouping, most=blocks_at_once)
        capture = None
        if self.engine != "eager":
            capture = CudaCapture() if self.device.type == "cuda" else lambda body: body
        self.sums, self.plain_sums = (self._sums(penalty, capture) for penalty in (over_blocks.penalty, None))
        self.sampled_sums = self._sums(spec.penalty, capture, penalty_alone=True) if self.sampled else None
        self.feed = Feed(
            spec, images if store is None else store, labels, self.device, self.grouping.most, images_on
        )  # fmt: skip
        held_out = {"validation": (dataset.train.images[count:], dataset.train.labels[count:])} if spec.held_out else {}
        measured = {"train": (images, labels), **held_out, "test": (dataset.test.images, dataset.test.labels)}
        self.data = {
            split: (
                # Training and measuring share what lies on the device.
                self.feed.images if split == "train" and store is None else self._placed(images, images_on),
                torch.from_numpy(labels).to(self.device),
            )
            for split, (images, labels) in measured.items()
        }
        self.transforms = transforms_of(spec)
        self.noise_steps = noise_steps(spec.noise.points, self.total) if spec.noise else set()

    def _placed(self, images, images_on: str) -> torch.Tensor:
        """Images to measure on, in the device's memory if they fit."""
        here = fits(images.nbytes, self.device, images_on)
        return torch.from_numpy(images).to(self.device if here else "cpu")

    def _sums(self, penalty: Penalty | MicroBatchPenalty | None, capture, penalty_alone: bool = False) -> StackSums:
        """What computes a stack of blocks, in the way and by the engine chosen."""
        copies = self.grouping.way != "shared"
        if self.engine == "eager":
            return StackSums(self.objective, penalty, copies, self.normalize, penalty_alone)
        streams = self.grouping.way == "streams"
        compiled = self.engine == "compiled"
        return GraphedSums(
            self.objective, penalty, copies, self.normalize, compiled, capture, streams, penalty_alone
        )  # fmt: skip

    @property
    def engine_used(self) -> str:
        """The engine, or what stands in for it where there is no compiler."""
        if self.engine != "compiled" or self.sums.compiled:
            return self.engine
        return "graph" if self.device.type == "cuda" else "eager"

    def step(self) -> dict:
        """Make one optimizer step; returns what the history records of it (tensors are not read back)."""
        spec, state = self.spec, self.state
        allow_tf32(self.precision == "tf32")
        epoch, within = divmod(state.step, self.steps_per_epoch)
        clock = epoch if spec.schedule.unit == "epoch" else state.step
        lr = learning_rate(spec.schedule, spec.lr, clock, self.total)
        first, end = step_range(spec, self.blocks, within)
        own, own_end = self.ranks.share(first, end)
        result = step_gradient(
            self.sums, state.theta, state.running, lambda: self.feed.stacks(epoch, own, own_end),
            end - first, lr, spec.averaging, own - first, self.ranks, self.plain_sums,
            None if self.sampled else self._noise(end - first, spec.block),
        )  # fmt: skip
        if self.sampled:
            result = self.with_sampled_penalty(result, epoch, first, end, lr)
        gradient, norm = result.gradient, result.gradient.norm()
        state.norms[state.step] = norm
        context = Context(norm, state.step, self._target(epoch, first, end, lr))
        for transform in self.transforms:
            gradient = transform(gradient, context)
        full_loss = result.loss + 0.5 * spec.weight_decay * state.theta.square().sum() + result.penalty
        line = self.has_line(state.step + 1) and self.ranks.leads
        watched = self.micro_batch_norm2() if line and spec.watch else None
        before = state.theta.clone() if line else None
        sgd_step(state.theta, state.momentum, gradient, lr, spec.momentum, spec.nesterov, spec.weight_decay)
        state.running = result.running
        state.step += 1
        state.blocks += end - first
        clipped = norm > spec.clip if spec.clip is not None else torch.zeros((), dtype=torch.bool)
        return {"epoch": epoch + 1, "lr": lr, "step_loss": result.loss, "full_loss": full_loss,
                "penalty": result.penalty, "gradient_norm": norm, "clipped": clipped,
                "step_length": (state.theta - before).norm() if line else None,
                "micro_batch_norm2": watched}  # fmt: skip

    def has_line(self, step: int) -> bool:
        """Whether the history has a line for this step, counted from 1."""
        watch = self.spec.watch
        return step in self.evaluation_steps or (watch is not None and (step - 1) % watch.every == 0)

    def _noise(self, blocks: int, images: int) -> torch.Tensor | None:
        """What the penalty draws in the next step for so many blocks of so many images."""
        spec, state = self.spec, self.state
        if not isinstance(spec.penalty, MicroBatchPenalty):
            return None
        return penalty_noise(spec.penalty, spec.seed, state.step, blocks, images, self.classes, state.theta)

    def _places(self, first: int, end: int) -> np.ndarray:
        """Where the images of the blocks first … end − 1 stand in the epoch's order."""
        n = self.spec.block
        return np.arange(first * n, min(end * n, epoch_images(self.spec, self.images)))

    def with_sampled_penalty(self, result: StepGradient, epoch: int, first: int, end: int, lr: float) -> StepGradient:
        """Add the penalty of one micro-batch drawn from the images of the step; running statistics do not move."""
        spec, state = self.spec, self.state
        added, value = torch.zeros_like(state.theta), state.theta.new_zeros(())
        if self.ranks.leads:
            places = self._places(first, end)
            count = min(self.sampled, len(places))
            chosen = stream(spec.seed, "sample", state.step).choice(places, count, replace=False)
            images, labels = self.feed.take(epoch, chosen)
            one = state.theta.new_ones(1)
            self.sampled_sums.begin(state.theta, len(state.running), lr)
            self.sampled_sums.add(images[None], labels[None], one, 0 * one, self._noise(1, count))
            added, _, _, value = self.sampled_sums.totals
        added, value = self.ranks.sum(added, value)
        return replace(result, gradient=result.gradient + added, penalty=value)

    def _target(self, epoch: int, first: int, end: int, lr: float) -> torch.Tensor | None:
        """The norm to which a graft scales the gradient of the next step."""
        spec, state = self.spec, self.state
        if self.norms is not None:
            return self.norms[state.step]
        if spec.transform is None or spec.transform.name != "iter_graft":
            return None
        norm = state.theta.new_zeros(())
        if self.ranks.leads:
            block = first + int(stream(spec.seed, "graft", state.step).integers(end - first))
            images, labels = self.feed.take(epoch, self._places(block, block + 1))
            # Its statistics are dropped: the block passes through batch norm in the step already.
            norm = step_gradient(
                self.plain_sums, state.theta, state.running, lambda: [(images[None], labels[None])], 1, lr
            ).gradient.norm()  # fmt: skip
        return self.ranks.sum(norm)[0]

    def micro_batch_norm2(self) -> torch.Tensor:
        """Average micro-batch gradient norm: mean_B ‖∇L_B(θ)‖² over micro-batches drawn for this alone, a scalar.

        In training mode, augmented, with the penalty left out; all runs of a seed that watch the same way are measured
        on the same images at the same step. Nothing of the run is changed.

        Source: Novack et al. 2023, figures 1 and 2.
        """
        spec, state, watch = self.spec, self.state, self.spec.watch
        count = watch.micro_batch * watch.micro_batches
        chosen = stream(spec.seed, "watch", state.step).choice(self.images, count, replace=False)
        images, labels = self.feed.fresh(chosen, "watch-augment", state.step)
        images, labels = images.unflatten(0, (-1, watch.micro_batch)), labels.view(-1, watch.micro_batch)
        most = copies_that_fit(len(state.theta), watch.micro_batch, images.shape[-1] * images.shape[-2])
        total = state.theta.new_zeros(())
        for start in range(0, len(labels), most):
            part, own = self.normalize(images[start : start + most]), labels[start : start + most]
            theta = state.theta.expand(len(own), -1) if len(own) > 1 else state.theta
            total += self.objective.gradients(theta, part, own)[1].square().sum()
        return total / len(labels)

    def record_noise(self, end: bool = False) -> None:
        """Measure the gradient noise, if it is due after so many steps, or at the `end`; nothing else is changed.

        It is that of the full blocks of the training images as they are, in their order, in training mode, in fp32.
        """
        spec, state = self.spec, self.state
        if spec.noise is None or not (end or state.step in self.noise_steps):
            return
        if self.ranks.leads:
            allow_tf32(False)
            blocks = self.images // spec.block
            state.noise.append(
                measured_noise(state.step, state.theta, self.objective.parameters, self._block_gradients, blocks)
            )

    def _block_gradients(self) -> Iterator[torch.Tensor]:
        """Gradients (k, P) of the training set's full blocks, some at a time, in order; the memory is used again."""
        n, (images, labels) = self.spec.block, self.data["train"]
        objective = Objective(self.objective.model, None, self.spec.loss)
        theta, blocks = self.state.theta[None], self.images // n
        together = max(1, min(blocks, NOISE_NUMBERS // theta.shape[1], NOISE_NUMBERS // (n * images[0].numel())))
        out = theta.new_empty(together, theta.shape[1])
        for start in range(0, blocks, together):
            rows = slice(start * n, min(start + together, blocks) * n)
            inputs = self.normalize(images[rows].to(self.device)).unflatten(0, (-1, n))
            own = labels[rows].unflatten(0, (-1, n))
            k = len(own)
            if architecture(self.spec.model)[0] == "fc":
                dense_gradients(objective, theta, inputs, own, out[:k])
                yield out[:k]
            else:
                yield objective.gradients(theta.expand(k, -1) if k > 1 else theta[0], inputs, own)[1].view(k, -1)

    def evaluate(self, step: dict, accuracies: bool = True) -> dict:
        """One line of the history: the step just made, and all splits after it, in fp32 whatever the precision.

        Args:
            step: what `step` returned.
            accuracies: measure losses and accuracies; the line has none otherwise.
        """
        state = self.state
        row = {"step": state.step}
        row |= {key: value.item() if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        if accuracies:
            allow_tf32(False)
            for split, (images, labels) in self.data.items():
                measured = evaluate(self.objective, state.theta, state.running, images, labels, self.normalize)
                row |= {f"{split}_{key}": value for key, value in measured.items()}
        row["parameter_norm"] = state.theta.norm().item()
        row["clipped"] = int(row["clipped"])
        return {column: row.get(column) for column in HISTORY_COLUMNS}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The network's state dict: weights, running statistics and batch norm's counters."""
        state, objective = self.state, self.objective
        named = {**objective.parameters.views(state.theta), **objective.buffers.views(state.running)}
        counters = {name: torch.tensor(state.blocks) for name in objective.counters}
        return {name: tensor.cpu().clone() for name, tensor in {**named, **counters}.items()}
