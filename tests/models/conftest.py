"""Lets the files of this folder share what they have in common."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
