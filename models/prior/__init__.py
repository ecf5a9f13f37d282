"""Prior: latent frames one after another, from seeds, for a codec as RAVE to decode (Caillon and Esling, 2021).

A frame is drawn given all before it. Its context comes from gated causal convolutions (WaveNet; van den Oord et al.,
2016, https://arxiv.org/abs/1609.03499), its coordinates one after another from mixtures of normal distributions
(RNADE; Uria, Murray and Larochelle, 2013, https://arxiv.org/abs/1306.0186), after what a linear model predicts is taken
off.
"""

from tonemill.models.prior.model import Prior

MODEL = Prior
