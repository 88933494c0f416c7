"""Measures lmx as its clients see it, against bare loops and other servers: docs/benchmarks.md."""
