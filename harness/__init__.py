"""The names that a method, a suite or any other plugin may import, and nothing else."""
