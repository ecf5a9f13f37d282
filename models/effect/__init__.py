"""Effect emulation: from pairs of dry and wet to a model that plays.

After Neural Amp Modeler, Wright et al. (2019) and audiofx. The default network is a small WaveNet; `--network` picks
another, and its `--help` shows that one's settings.
"""

from tonemill.models.effect.model import Effect

MODEL = Effect
