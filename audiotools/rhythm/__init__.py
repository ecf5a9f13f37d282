"""Onsets, beats, bars and tempo, and where chords change."""
