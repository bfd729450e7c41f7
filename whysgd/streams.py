"""Random streams: one for each (seed, purpose, index), independent of everything else.

Nothing in whysgd reads global random state. A stream can be made again at any time, so a
resumed run draws what the interrupted one would have drawn, and measuring between two steps
changes nothing.
"""

import hashlib

import numpy as np


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of one purpose at one index (an epoch, a step, a copy).

    Philox is a counter-based generator: the key is derived from (seed, purpose), the index is
    the highest of the four 64-bit counter words, so each index has 2^192 numbers of its own.

    Args:
        seed: the run's seed, any integer not below 0.
        purpose: what is drawn, e.g. "order" or "augment".
        index: which of the purpose's streams.

    Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
    """
    key = hashlib.sha256(f"whysgd/{purpose}/{seed}".encode()).digest()[:16]
    words = np.frombuffer(key, dtype="<u8")
    counter = np.array([0, 0, 0, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=counter))
