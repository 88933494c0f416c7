"""What may happen: declared state machines, effects as data, pure policies. No clock, no thread, no I/O."""
