"""The command line. Modules here import jax only inside their functions, so that `--help` answers at once."""
