"""Pictures for people: waveforms and spectrograms."""
