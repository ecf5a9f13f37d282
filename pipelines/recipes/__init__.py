"""The words: a recipe and its stream, what a step is, an example, conditions on fields."""
