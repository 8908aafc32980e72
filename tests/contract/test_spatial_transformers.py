"""Spatial transformers and what stands on them owe the trainer what every system does."""

from tests.contract.contract import Contract
from tests.systems import SPATIAL_TRANSFORMERS


class TestAttention(Contract):
    systems = SPATIAL_TRANSFORMERS
