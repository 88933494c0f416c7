"""The loops that nobody can beat: each library driven directly, nothing around it. They are what lmx is measured by."""
