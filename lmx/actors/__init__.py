"""Who does it: one actor per thing that lives. Actors own a machine, feed it events, and perform its effects."""
