"""The sums over the micro-batches of a step, for all seeds at once.

How seeds share a pass: a pass takes S seeds and k micro-batches of each. θ (S, P) is repeated to (S·k, P), a parameter
vector for each pair; `whysgd.models.layers` turns S·k sets of weights into one grouped convolution, and
`whysgd.training.grouping` says how many pairs a pass takes at most. A large network has one pair in a pass.

`Engine.sums` goes through the micro-batches pass by pass, and `Engine.one_pass` computes one: a function of tensors
alone, backward passes included. Eager, it runs as it is written; compiled, it is traced into one graph of plain
operations, so that a compiler fuses across forward, backward and the penalty's second derivatives, and on a GPU torch's
CUDA graphs launch it at once.
"""

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from whysgd.training.dense import fastest_gradients
from whysgd.training.micro_batches import MicroBatches
from whysgd.training.objective import Objective
from whysgd.training.transforms import Context

# Images (S, k, n, C, H, W) uint8 or normalized, and labels (S, k, n), of k micro-batches of S seeds. S = 1 serves all.
Group = tuple[torch.Tensor, torch.Tensor]


class Step(NamedTuple):
    """The inputs of a step's passes: for all its seeds and micro-batches or, after `part`, for those of one pass.

    Attributes:
        theta: θ (S, P), one row for each seed.
        weights: the weight (N,) of each micro-batch in the gradient; None: 1 for a single one.
        kept: its weight (N,) in the running statistics; None: they do not move them.
        lr: η, which scales geiping2022's penalty.
        full_gradient: ḡ (S, P) at the same θ, if the penalty needs it.
        draws: what the penalty draws (S, N, …), if it draws.
        keys: of dropout (S, N), if the network has some; every pass of the step drops the same.
    """

    theta: torch.Tensor
    weights: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    lr: float = 0.0
    full_gradient: torch.Tensor | None = None
    draws: torch.Tensor | None = None
    keys: torch.Tensor | None = None

    def part(self, rows: slice, here: slice) -> "Step":
        """Return what these seeds and micro-batches have of it."""
        full = None if self.full_gradient is None else self.full_gradient[rows]
        own = [None if tensor is None else tensor[rows, here] for tensor in (self.draws, self.keys)]
        return Step(self.theta[rows], self.weights[here], self.kept[here], self.lr, full, *own)


class Sums(NamedTuple):
    """Sums over micro-batches B.

    Attributes:
        gradient: Σ w_B (g_B + penalty_B) (S, P).
        statistics: Σ kept_B s_B (S, Q), see `Objective.statistic_weights`.
        loss, penalty: Σ L_B and Σ λR_B (S,).
        clipped: how many were clipped (S,).
    """

    gradient: torch.Tensor
    statistics: torch.Tensor
    loss: torch.Tensor
    penalty: torch.Tensor
    clipped: torch.Tensor


class Engine:
    """Computes passes over micro-batches in one way.

    Args:
        objective: the loss.
        penalty: a function of `MicroBatches`, see `whysgd.training.penalties`; None: no penalty.
        most: pairs of a seed and a micro-batch in one pass, at most.
        normalize: from images as they are stored to what the network takes.
        compiled: compile a pass; False afterwards where there is no compiler.
        penalty_alone: leave out the micro-batches' own gradients.
        clip: the transform that clips each micro-batch's gradient, penalty included; None: no limit.
    """

    def __init__(
        self, objective: Objective, penalty: Callable | None = None, most: int = 1, normalize: Callable | None = None,
        compiled: bool = False, penalty_alone: bool = False, clip: Callable | None = None,
    ):  # fmt: skip
        self.objective, self.penalty, self.most, self.penalty_alone = objective, penalty, most, penalty_alone
        self.normalize = normalize or (lambda images: images)
        self.compiled, self.functions, self.clip = compiled, {}, clip
        # A compiler fuses what autograd does; without one the chain rule written out is faster.
        self.gradients = Objective.gradients if compiled else fastest_gradients(objective)

    def sums(self, step: Step, groups: Iterable[Group]) -> Sums:
        """Return the sums over groups of neighbouring micro-batches, in order; nothing else is changed."""
        theta, first, totals = step.theta, 0, None
        weights = theta.new_ones(1) if step.weights is None else step.weights
        step = step._replace(weights=weights, kept=torch.zeros_like(weights) if step.kept is None else step.kept)
        for images, labels in groups:
            k = labels.shape[1]
            here, seeds, chunks = slice(first, first + k), max(1, self.most // k), []
            for start in range(0, len(theta), seeds):
                rows = slice(start, start + seeds)
                own = rows if len(labels) > 1 else slice(None)
                chunks.append(self._run(images[own], labels[own], *step.part(rows, here)))
            parts = chunks[0] if len(chunks) == 1 else [torch.cat(part) for part in zip(*chunks, strict=True)]
            totals = parts if totals is None else [a.add_(b) for a, b in zip(totals, parts, strict=True)]
            first += k
        if totals is None:
            # A rank may have no micro-batch of a step.
            statistics = theta.new_zeros(len(theta), len(self.objective.buffers))
            totals = torch.zeros_like(theta), statistics, *theta.new_zeros(3, len(theta))
        return Sums(*totals)

    def one_pass(self, images, labels, *step):
        """Return the sums of one pass over k micro-batches of S seeds, in the order of `Sums`. No side effects.

        Args:
            images, labels: a `Group`.
            step: the fields of the pass's `Step`.
        """
        step = Step(*step)
        seeds, k = len(step.theta), labels.shape[1]

        def pairs(tensor):
            """(S or 1, k or 1, …) as (S·k, …)."""
            return None if tensor is None else tensor.expand(seeds, k, *tensor.shape[2:]).flatten(0, 1)

        full = None if step.full_gradient is None else step.full_gradient[:, None]
        micro_batches = MicroBatches(
            self.objective, self.gradients, pairs(step.theta[:, None]), pairs(self.normalize(images)), pairs(labels),
            step.lr, pairs(full), pairs(step.draws), pairs(step.keys),
        )  # fmt: skip
        added, values = (0.0, None) if self.penalty is None else self.penalty(micro_batches)
        g = micro_batches.gradient
        values = g.new_zeros(len(g)) if values is None else values
        total = (added if self.penalty_alone else g + added if self.penalty else g).detach()
        over = torch.zeros_like(values)
        if self.clip is not None:
            context = Context(total.norm(dim=1))
            total = self.clip(total, context)
            over = context.line["clipped"]
        return (
            step.weights @ total.unflatten(0, (seeds, k)),
            step.kept @ micro_batches.statistics.detach().unflatten(0, (seeds, k)),
            micro_batches.losses_now.view(seeds, k).sum(1),
            values.detach().view(seeds, k).sum(1),
            over.to(values.dtype).view(seeds, k).sum(1),
        )

    def _run(self, *arguments):
        """Compute one pass, by the function compiled for its shapes if the engine compiles."""
        if not self.compiled:
            return self.one_pass(*arguments)
        theta = Step(*arguments[2:]).theta
        # A plain number would be compiled in.
        arguments = [theta.new_full((), part) if isinstance(part, float) else part for part in arguments]
        shapes = tuple(argument.shape for argument in arguments if argument is not None)
        if shapes not in self.functions:
            try:
                self.functions[shapes] = compile_function(self.one_pass, arguments)
            except NoCompilerError as error:
                print(f"no compiler can be used ({error}); going on without, more slowly", file=sys.stderr)
                self.compiled = False
                return self.one_pass(*arguments)
        # The next call writes its results to the same memory.
        return tuple(part.clone() for part in self.functions[shapes](*arguments))


# What torch's errors say where Triton, or a C++ compiler, is missing.
NO_COMPILER = ("TritonMissing", "working triton", "InvalidCxxCompiler", "No working C++ compiler")


class NoCompilerError(RuntimeError):
    """Compiling needs Triton on a GPU, a C++ compiler on a CPU."""


def compile_function(function: Callable, arguments: tuple) -> Callable:
    """Return a function of tensors that may differentiate inside, compiled for arguments of these shapes.

    Compiling the network first and then differentiating twice fails, so the whole is traced into plain operations
    first. On a GPU torch captures it as a CUDA graph.

    Args:
        function: of tensors; None stays None.
        arguments: examples.

    Raises:
        NoCompilerError: there is none that works.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    given = [i for i, argument in enumerate(arguments) if argument is not None]

    def of_tensors(*tensors):
        whole = [None] * len(arguments)
        for i, tensor in zip(given, tensors, strict=True):
            whole[i] = tensor
        return function(*whole)

    tensors = [arguments[i] for i in given]
    # Without cuDNN batch norm is traced as an operation that the compiler takes apart and fuses; which library
    # computes a convolution is decided later, when it runs.
    with torch.backends.cudnn.flags(enabled=False):
        traced = make_fx(of_tensors)(*tensors)
    # That library may lay out its results in another way than the one that was traced, so no view may be taken of them.
    for node in traced.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    traced.recompile()
    mode = "reduce-overhead" if tensors[0].is_cuda else "default"
    compiled = torch.compile(traced, dynamic=False, mode=mode)
    try:
        compiled(*tensors)
    except Exception as error:
        if not any(sign in f"{type(error).__name__} {error}" for sign in NO_COMPILER):
            raise
        raise NoCompilerError(str(error).strip().splitlines()[0]) from None
    return lambda *whole: compiled(*(whole[i] for i in given))
