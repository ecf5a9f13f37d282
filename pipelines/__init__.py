"""How work flows: from recipes to corpora, from corpora to trained models, from models to audio."""
