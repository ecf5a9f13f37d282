"""Loop GAN: loops of exact length by way of mel spectrograms, after StyleGAN2 and Projected GANs (Sauer et al., 2021).

The generator is circular in time, so a loop goes on where it ends. The discriminator sees random mixtures of a frozen
network's features (https://arxiv.org/abs/2111.01007), or is StyleGAN2's own. A vocoder, or Griffin-Lim, renders it.
"""

from tonemill.models.loopgan.model import LoopGAN

MODEL = LoopGAN
