"""How work flows: recipes, steps, corpora, the Beam graph, training and rendering."""
