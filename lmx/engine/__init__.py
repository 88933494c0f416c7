"""Code that runs steps: a worker process per loaded model, and the parent's end of it."""
