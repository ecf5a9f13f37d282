"""Next-sample network: a perceptron over the dry signal and its own past output (audiofx, 2025)."""

from tonemill.models.effect.networks.autoregressive.network import Autoregressive

NETWORK = Autoregressive
