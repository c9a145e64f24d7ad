"""How the tokens of an input become latent tokens."""

from .patches import Patches as Patches
from .tokens import NodeTokens as NodeTokens
from .tokens import PuzzleTokens as PuzzleTokens
from .tokens import Tokens as Tokens
