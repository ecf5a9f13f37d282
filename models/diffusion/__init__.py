"""Audio diffusion: noise to sound of any length in few steps, by a U-Net (https://arxiv.org/abs/2301.11757).

A network learns to take noise from clips of a corpus (`--objective v`, or `flow`); a trained one makes clips from
seeds, varies, mends and continues sounds. `--task upsample` makes the upper bands of sounds that lack them.
"""

from tonemill.models.diffusion.model import Diffusion

MODEL = Diffusion
