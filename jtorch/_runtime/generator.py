"""The state behind torch's CPU random numbers.

API (the draws themselves are in `draws.py`: functions of a generator, a shape and a NumPy dtype, giving NumPy arrays):

    Generator(device="cpu")
        .manual_seed(seed) -> self      .initial_seed() -> int      .seed() -> int, a fresh one from the system
        .get_state() -> uint8[5056]     .set_state(uint8[5056]) -> self
        .clone_state() -> Generator     .graphsafe_get_state() -> Generator     .graphsafe_set_state(Generator) -> self
        .device                         the object given to the constructor
        .lock                           re-entrant; every draw takes it
    default_generator                   the one that draws use when given none
    resolve(generator | None)           that choice
    fork(generator=None)                context manager: the state is put back on leaving

A state is torch's own 5056 bytes, so one saved by torch loads here and the other way round.
"""

from __future__ import annotations

import operator
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jtorch._runtime.mt19937 import WORDS, Engine

DEFAULT_SEED = 67280421310721
STATE_BYTES = 5056

# The state as 64-bit words: seed; words left before the next twist (low half) and a flag that it was seeded (high
# half); index of the next word; the 624 words, one to a slot; then four that hold the second normal of a pair.
_SEED, _LEFT, _NEXT, _STATE = 0, 1, 2, 3
_NORMAL = _STATE + WORDS + 1
_NORMAL_VALID = _NORMAL + 2


looks = [0]  # how often any state was set or looked at


class Generator:
    """A stream of random numbers: the same seed gives torch's own.

    Differences from torch: `get_state` and `set_state` speak NumPy here; the Tensor layer wraps them.
    """

    def __init__(self, device: Any = "cpu"):
        self.device = device
        self.lock = threading.RLock()
        self.engine = Engine(DEFAULT_SEED)
        self._seed = DEFAULT_SEED
        # Normals are made in pairs; a scalar draw keeps its second for the next one.
        self.spare_normal: float | None = None

    def manual_seed(self, seed: int) -> Generator:
        """Restarts the stream from a seed, which may be negative (two's complement). Returns the generator.

        RuntimeError for a value that is no integer, ValueError for one beyond 64 bits.
        """
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or getattr(seed, "ndim", 0):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        looks[0] += 1
        value = operator.index(seed)
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError("Overflow when unpacking long long")
        with self.lock:
            self._seed = value & 0xFFFFFFFFFFFFFFFF
            self.engine.seed(self._seed)
            self.spare_normal = None
        return self

    def seed(self) -> int:
        """Seeds from the operating system's entropy and returns the seed."""
        value = secrets.randbits(64)
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """The seed last given, as an unsigned 64-bit number."""
        return self._seed

    def get_state(self) -> np.ndarray:
        """The whole state, uint8 of 5056 bytes, laid out as torch lays it out."""
        looks[0] += 1
        slots = np.zeros(STATE_BYTES // 8, np.uint64)
        with self.lock:
            position = 0 if self.engine.fresh else self.engine.position
            left = 1 if self.engine.fresh else WORDS + 1 - position
            slots[_SEED] = self._seed
            slots[_LEFT] = left | 1 << 32
            slots[_NEXT] = position
            slots[_STATE : _STATE + WORDS] = self.engine.words
            if self.spare_normal is not None:
                slots[_NORMAL : _NORMAL + 1].view(np.float64)[0] = self.spare_normal
                slots[_NORMAL_VALID] = 1
        return slots.view(np.uint8)

    def set_state(self, state: np.ndarray) -> Generator:
        """Takes over a state made by `get_state` or by torch. RuntimeError if it is none; TypeError if not bytes."""
        looks[0] += 1
        state = np.asarray(state)
        if state.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if state.size != STATE_BYTES:
            raise RuntimeError(
                f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state size to be "
                f"{state.size}"
            )
        slots = np.frombuffer(state.tobytes(), np.uint64)
        left, seeded, position = int(slots[_LEFT]) & 0xFFFFFFFF, int(slots[_LEFT]) >> 32, int(slots[_NEXT])
        if not seeded or not 0 < left <= WORDS or position > WORDS:
            raise RuntimeError("Invalid mt19937 state")
        with self.lock:
            self._seed = int(slots[_SEED])
            # left == 1 says that the words are used up, whatever the index says: so it is right after seeding.
            words = slots[_STATE : _STATE + WORDS].astype(np.uint32)
            self.engine.load(words, WORDS if left == 1 else position, fresh=left == 1 and position == 0)
            valid = int(slots[_NORMAL_VALID]) & 0xFFFFFFFF
            self.spare_normal = float(slots[_NORMAL : _NORMAL + 1].view(np.float64)[0]) if valid else None
        return self

    def clone_state(self) -> Generator:
        """A new generator at the same place of the same stream."""
        return type(self)(self.device).set_state(self.get_state())

    def graphsafe_get_state(self) -> Generator:
        """A snapshot as a generator of its own, for `graphsafe_set_state`."""
        return self.clone_state()

    def graphsafe_set_state(self, state: Generator) -> Generator:
        """Takes over another generator's present state."""
        return self.set_state(state.get_state())

    def __reduce__(self):
        return _restore, (type(self), self.device, self.get_state())

    def __repr__(self) -> str:
        return f"<jtorch.Generator device={self.device} seed={self._seed}>"


def _restore(kind: type[Generator], device, state: np.ndarray) -> Generator:
    return kind(device).set_state(state)


# Not reproducible until somebody calls manual_seed.
default_generator = Generator()
default_generator.seed()


def resolve(generator: Generator | None) -> Generator:
    """The generator itself, or the default one for None."""
    return default_generator if generator is None else generator


@contextmanager
def fork(generator: Generator | None = None) -> Iterator[Generator]:
    """Runs a block whose draws leave no trace: the generator's state is put back afterwards."""
    generator = resolve(generator)
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)
