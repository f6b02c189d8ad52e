"""Data sets: sequences, their vocabulary, and how they are read from files."""
