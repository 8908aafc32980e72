"""Detectors and instance segmenters owe the trainer what every system does."""

from tests.contract.contract import Contract
from tests.systems import DETECTION


class TestDetection(Contract):
    systems = DETECTION
