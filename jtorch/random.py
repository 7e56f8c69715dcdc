"""The random streams' state."""

from jtorch._tensor.random import default_generator as default_generator
from jtorch._tensor.random import fork_rng as fork_rng
from jtorch._tensor.random import get_rng_state as get_rng_state
from jtorch._tensor.random import initial_seed as initial_seed
from jtorch._tensor.random import manual_seed as manual_seed
from jtorch._tensor.random import seed as seed
from jtorch._tensor.random import set_rng_state as set_rng_state
