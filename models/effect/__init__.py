"""Effect emulation: from pairs of dry and wet to a model that plays (Neural Amp Modeler, Wright et al., audiofx).

The default network is a small WaveNet; `--network` picks another, and its `--help` shows that one's settings.
"""

from tonemill.models.effect.model import Effect

MODEL = Effect
