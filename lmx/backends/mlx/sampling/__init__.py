"""How one sequence's logits become its next token: everything stays on the device, nothing waits for it.

Names, meanings and order are those of `lmx.backends.sampling`. mlx-lm's own filters are not used: they are compiled
anew for every value of a parameter, in the decode loop. Only a mask has to wait for the device: it must know each token
before it can tell what may follow.
"""

from lmx.backends.mlx.sampling.draw import Draw
from lmx.backends.mlx.sampling.dry import Dry
from lmx.backends.mlx.sampling.exclusion import Masked, MinTokens
from lmx.backends.mlx.sampling.penalties import Bias, Penalties
from lmx.backends.mlx.sampling.row import RowSampling

__all__ = ["Bias", "Draw", "Dry", "Masked", "MinTokens", "Penalties", "RowSampling"]
