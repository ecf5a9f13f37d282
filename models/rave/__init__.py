"""RAVE: a realtime autoencoder of audio, after Caillon and Esling (2021, https://arxiv.org/abs/2111.05011).

Audio is split into sub-bands, encoded to latents of some 20 frames a second, and decoded. Training first compares
spectra; then the encoder stays as it is, and discriminators fine-tune the decoder. Without look-ahead and at a higher
rate of latents (`--architecture live`) it is BRAVE (Caspe et al., 2025, https://arxiv.org/abs/2503.11562).
"""

from tonemill.models.rave.model import Rave

MODEL = Rave
