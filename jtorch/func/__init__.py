"""Functions of functions: derivatives, vectorising maps, and modules as functions of their parameters.

Derivatives run on autograd, forward mode as the derivative of the reverse one; `vmap` is JAX's.
"""

from jtorch.func._derivatives import grad as grad
from jtorch.func._derivatives import grad_and_value as grad_and_value
from jtorch.func._derivatives import hessian as hessian
from jtorch.func._derivatives import jacfwd as jacfwd
from jtorch.func._derivatives import jacrev as jacrev
from jtorch.func._derivatives import jvp as jvp
from jtorch.func._derivatives import linearize as linearize
from jtorch.func._derivatives import vjp as vjp
from jtorch.func._module import functional_call as functional_call
from jtorch.func._module import replace_all_batch_norm_modules_ as replace_all_batch_norm_modules_
from jtorch.func._module import stack_module_state as stack_module_state
from jtorch.func._vmap import vmap as vmap
