"""MLX models through mlx-lm's BatchGenerator; nothing else in lmx imports mlx or mlx_lm."""

from lmx.backends.mlx.backend import MlxBackend

__all__ = ["MlxBackend"]
