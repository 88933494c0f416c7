"""The messages of every actor, one module per receiver: commands are imperative, facts are in the past tense."""
