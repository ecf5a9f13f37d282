"""Vocoder: mel spectrograms to audio, after Vocos (Siuzdak, 2023, https://arxiv.org/abs/2306.00814) or by MelGAN.

`--generator vocos` predicts short-time spectra, 100 a second, and inverts them; `--generator melgan` raises the rate by
transposed convolutions (Kumar et al., 2019, https://arxiv.org/abs/1910.06711). Training takes clips of
audio and computes their mel spectrograms itself; a trained model renders audio to mel to audio, and a model of mels, as
the loop GAN, calls `Vocoder.audio`.
"""

from tonemill.models.vocoder.model import Vocoder

MODEL = Vocoder
