"""Adapters to the inference libraries. Each library is imported by its own module or folder here and nowhere else."""
