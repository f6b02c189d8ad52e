"""`steerax compare`: an exact filter, the dual filter that does it in layers, and a trained GPT, side by side."""
