"""Change a sound: rate, level, length, channels, fades."""
