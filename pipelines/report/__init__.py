"""A report: one page on which a person looks and listens to corpora, runs and renders."""
