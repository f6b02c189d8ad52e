"""Experiments: each takes a configuration and returns a result whose every number can be written as JSON."""
