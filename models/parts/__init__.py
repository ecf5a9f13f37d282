"""What two or more models share: layers, losses, spectrograms, adversarial training."""
