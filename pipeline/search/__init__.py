"""The search for split points and recipe: one Ray Tune sweep, whose trials are Ray Train runs."""
