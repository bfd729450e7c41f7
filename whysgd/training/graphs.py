"""The block step of a GPU: compiled into few kernels, and captured so that one launch makes them all.

`StackSums.compute` is a function of tensors alone, backward passes included. Traced into one graph of plain
operations, a compiler can fuse across forward, backward and the penalty's second derivatives (compiling the network
and then differentiating twice fails). Captured as a CUDA graph, a stack costs the processor one launch.
"""

import sys
from collections.abc import Callable

import torch

from whysgd.training.gradients import StackSums


class GraphedSums(StackSums):
    """`StackSums` with fixed places in memory for everything a step reads and writes.

    Args:
        compiled: compile what computes a stack; False afterwards where there is no compiler.
        capture: capture(body) returns a function that does again what body() does; None: a `CudaCapture`.
        streams: compute the blocks of a stack one by one, each on a stream of its own, instead of together: for
            networks too large for copies of their weights, and blocks too small to fill the chip.

    The others are those of `StackSums`.
    """

    def __init__(
        self,
        objective,
        penalty=None,
        copies: bool = True,
        normalize=None,
        compiled: bool = True,
        capture: Callable[[Callable], Callable] | None = None,
        streams: bool = False,
        penalty_alone: bool = False,
    ):
        super().__init__(objective, penalty, copies, normalize, penalty_alone)
        self.compiled, self.capture, self.streams = compiled, capture or CudaCapture(), streams
        # Made once: torch hands out 32 streams in turn, and one of them prepares images.
        self.side: list[torch.cuda.Stream] = []
        self.functions: dict[tuple, Callable] = {}
        self.replays: dict[tuple, tuple] = {}
        self.place = None

    def begin(self, theta, statistics: int, lr: float, pre_gradient=None) -> None:
        """Start a step; θ is read where it lies, so it should be updated in place from step to step."""
        if self.place != theta.data_ptr():
            self.place = theta.data_ptr()
            self.replays.clear()
            super().begin(theta, statistics, lr, pre_gradient)
            self.lr = theta.new_zeros(())
            self.pre_gradient = None if pre_gradient is None else torch.empty_like(theta)
        for total in self.totals:
            total.zero_()
        self.lr.fill_(lr)
        if pre_gradient is not None:
            self.pre_gradient.copy_(pre_gradient)

    def add(self, images, labels, weight, kept, noise=None) -> None:
        """Add one stack, by replaying what was captured for its shape."""
        parts = (images, labels, weight, kept) if noise is None else (images, labels, weight, kept, noise)
        shape = tuple(images.shape)
        if shape not in self.replays:
            slots = tuple(torch.empty_like(part).copy_(part) for part in parts)
            # Capturing runs the body, to warm it up.
            before = [total.clone() for total in self.totals]
            replay = self.capture(lambda: self._accumulate(*slots))
            for total, value in zip(self.totals, before, strict=True):
                total.copy_(value)
            self.replays[shape] = slots, replay
        slots, replay = self.replays[shape]
        for slot, part in zip(slots, parts, strict=True):
            slot.copy_(part)
        replay()

    def _accumulate(self, *slots) -> None:
        k = len(slots[1])
        if self.streams and k > 1:
            while slots[0].is_cuda and len(self.side) < k:
                self.side.append(torch.cuda.Stream())
            works = [lambda i=i: self._parts(*(slot[i : i + 1] for slot in slots)) for i in range(k)]
            parts = _side_by_side(works, self.side)
        else:
            parts = [self._parts(*slots)]
        for part in parts:
            for total, value in zip(self.totals, part, strict=True):
                total.add_(value)

    def _parts(self, images, labels, weight, kept, noise=None):
        given = {"pre_gradient": self.pre_gradient, "noise": noise}
        given = {name: tensor for name, tensor in given.items() if tensor is not None}
        arguments = [self.theta, images, labels, weight, kept, self.lr, *given.values()]

        def compute(*tensors):
            return self.compute(*tensors[:6], **dict(zip(given, tensors[6:], strict=True)))

        shape = tuple(images.shape)
        if self.compiled and shape not in self.functions:
            try:
                self.functions[shape] = compile_function(compute, arguments)
            except NoCompilerError as error:
                print(f"no compiler can be used ({error}); going on without, more slowly", file=sys.stderr)
                self.compiled = False
        return self.functions.get(shape, compute)(*arguments)


def compile_function(function: Callable, arguments: list[torch.Tensor]) -> Callable:
    """A function of tensors that may differentiate inside, compiled for arguments of these shapes.

    Raises:
        NoCompilerError: there is none that works.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # Without cuDNN batch norm is traced as an operation that the compiler takes apart and fuses; which library
    # computes a convolution is decided later, when it runs.
    with torch.backends.cudnn.flags(enabled=False):
        traced = make_fx(lambda *tensors: function(*tensors))(*arguments)
    # That library may lay out its results in another way than the one that was traced, so no view may be taken of them.
    for node in traced.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    traced.recompile()
    compiled = torch.compile(traced, dynamic=False)
    try:
        compiled(*arguments)
    except Exception as error:
        if not any(sign in f"{type(error).__name__} {error}" for sign in NO_COMPILER):
            raise
        raise NoCompilerError(str(error).strip().splitlines()[0]) from None
    return compiled


# What torch's errors say where Triton, or a C++ compiler, is missing.
NO_COMPILER = ("TritonMissing", "working triton", "InvalidCxxCompiler", "No working C++ compiler")


class NoCompilerError(RuntimeError):
    """Compiling needs Triton on a GPU, a C++ compiler on a CPU."""


def _side_by_side(works: list[Callable], streams: list) -> list:
    """The results of several functions, each on a CUDA stream of its own; without streams one after another."""
    if not streams:
        return [work() for work in works]
    main, results = torch.cuda.current_stream(), []
    for stream, work in zip(streams, works, strict=False):
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            results.append(work())
    for stream in streams[: len(works)]:
        main.wait_stream(stream)
    return results


class CudaCapture:
    """Captures CUDA graphs that share their memory: they are replayed one after another, and leave nothing in it."""

    def __init__(self):
        self.pool = torch.cuda.graph_pool_handle()
        self.side = torch.cuda.Stream()

    def __call__(self, body: Callable) -> Callable:
        """A graph of what body() launches, after three rounds in which libraries choose their algorithms."""
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            for _ in range(3):
                body()
        torch.cuda.current_stream().wait_stream(self.side)
        graph = torch.cuda.CUDAGraph()
        # Another thread may be preparing images: what it allocates is no part of the graph.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            body()
        return graph.replay
