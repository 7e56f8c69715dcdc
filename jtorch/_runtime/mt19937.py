"""The bit source of torch's CPU random numbers: a Mersenne Twister, drawn in blocks.

NumPy's own MT19937 does the twisting, so a block of a million words costs milliseconds; this class adds what torch has
around it: how a seed becomes a state, how 64-bit and fractional draws are made of 32-bit words, and the position.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

WORDS = 624
_MASK24 = np.uint32((1 << 24) - 1)
_MASK53 = np.uint64((1 << 53) - 1)
_TOP64, _LOW53 = (1 << 64) - 1, (1 << 53) - 1
_32 = np.uint64(32)
# Below this many draws the plainer call is faster than the one that fills arrays of the right width.
_FEW = 4096
# Draws of a few numbers each, where nothing else is drawn in between, are served from words that were made ahead: from
# this many words on, which is when the copying of a state that it takes (60 us) is made up for.
_STEADY = 256
_AHEAD = 512  # words at a time


class _Unseeded(ISeedSequence):
    """Gives a state that is to be replaced, in a third of the time that NumPy's own way of seeding takes."""

    def generate_state(self, n_words, dtype=np.uint32):
        return _ZEROS[:n_words]


_UNSEEDED, _ZEROS = _Unseeded(), np.zeros(WORDS, np.uint32)


class Engine:
    """A Mersenne Twister at some position of its stream. Not locked: its owner is.

    While words are there that were made ahead, `_bits` stands where those began, and what made them where they end. An
    interrupt may skip words of the stream; it never leaves any to come twice.
    """

    __slots__ = ("_ahead", "_begun", "_bits", "_blocks", "_few", "_level", "_scout", "_seeding", "fresh")

    def __init__(self, seed: int):
        self._scout: Any = None  # what makes words ahead
        self._forget()
        self._bits = np.random.MT19937(_UNSEEDED)  # type: ignore[arg-type]
        self._blocks = np.random.Generator(self._bits)
        self._seeding = np.random.RandomState(self._bits)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Restarts the stream. Only the low 32 bits of `seed` matter, as in torch."""
        self._forget()
        self._seeding.seed(seed & 0xFFFFFFFF)
        self.fresh = True

    def _forget(self) -> None:
        """Drops the words that were made ahead: `_bits` is about to be put elsewhere."""
        self._level = False  # whether the next word after those that were made ahead is the scout's
        self._ahead: list[int] = []  # last first
        self._begun = 0  # how many there were when `_bits` was where they began
        self._few = 0  # words that were drawn a few at a time since anything else was; from _STEADY on some are ahead

    def _settle(self) -> None:
        """Puts `_bits` to where the stream is."""
        if self._begun:
            self._bits.random_raw(self._begun - len(self._ahead), output=False)
        self._forget()

    def _look_ahead(self) -> None:
        """Makes more words ahead."""
        level, self._level = self._level, False  # an interrupt from here on has the scout placed anew
        if not level:
            self._settle()
            if self._scout is None:
                self._scout = np.random.MT19937(_UNSEEDED)  # type: ignore[arg-type]
            self._scout.state = self._bits.state
        ahead = self._scout.random_raw(_AHEAD).tolist()[::-1] + self._ahead
        self._bits.random_raw(self._begun - len(self._ahead), output=False)
        self._ahead, self._begun = ahead, len(ahead)
        self._few, self._level = _STEADY, True

    @property
    def words(self) -> np.ndarray:
        """The 624 state words, uint32."""
        self._settle()
        return self._bits.state["state"]["key"]

    @property
    def position(self) -> int:
        """How many words of the current state are handed out; 624: all of them (or, when `fresh`, none yet made)."""
        self._settle()
        return self._bits.state["state"]["pos"]

    def load(self, words: np.ndarray, position: int, *, fresh: bool) -> None:
        """Takes over a state of 624 uint32 words."""
        self._forget()
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": position}}
        self.fresh = fresh

    def mark(self) -> tuple[Any, bool]:
        """The present place in the stream, for `rewind`."""
        self._settle()
        return self._bits.state, self.fresh

    def rewind(self, mark: tuple[Any, bool], skip: int = 0) -> None:
        """Goes back to `mark` and from there past `skip` 32-bit words.

        For samplers that learn how much they consume only after looking at it.
        """
        self._forget()
        self._bits.state, self.fresh = mark
        if skip:
            self._bits.random_raw(skip, output=False)
            self.fresh = False

    def raw32(self, count: int) -> np.ndarray:
        """`count` 32-bit draws, uint32."""
        if self._few:
            self._settle()
        if count:
            self.fresh = False
        if count < _FEW:
            return self._bits.random_raw(count).astype(np.uint32)
        return self._blocks.integers(0, 1 << 32, count, dtype=np.uint32)

    def raw64(self, count: int) -> np.ndarray:
        """`count` 64-bit draws, uint64: two words each, the high half first."""
        if self._few:
            self._settle()
        if count:
            self.fresh = False
        if count < _FEW:
            words = self._bits.random_raw(2 * count)
            return words[::2] << _32 | words[1::2]
        return self._blocks.integers(0, _TOP64, count, dtype=np.uint64, endpoint=True)

    def unit24(self, count: int) -> np.ndarray:
        """`count` float32 in [0, 1): the low 24 bits of a 32-bit draw each."""
        bits = self.raw32(count)
        np.bitwise_and(bits, _MASK24, out=bits)
        # Signed to float is one instruction where unsigned to float is several.
        unit = bits.view(np.int32).astype(np.float32)
        unit *= np.float32(2.0**-24)
        return unit

    def few53(self, count: int) -> list[float]:
        """What `unit53` gives, as Python numbers: in less time up to some sixteen of them."""
        if count:
            self.fresh = False
        if self._few < _STEADY:
            self._few += 2 * count
            word = self._bits.random_raw
        else:
            while len(self._ahead) < 2 * count:
                self._look_ahead()
            word = self._ahead.pop
        return [((word() << 32 | word()) & _LOW53) * 2.0**-53 for _ in range(count)]

    def unit53(self, count: int) -> np.ndarray:
        """`count` float64 in [0, 1): the low 53 bits of a 64-bit draw each."""
        bits = self.raw64(count)
        np.bitwise_and(bits, _MASK53, out=bits)
        unit = bits.view(np.int64).astype(np.float64)
        unit *= 2.0**-53
        return unit
