"""The basic types: a recipe and its stream, a step, an example, and a condition on fields."""
