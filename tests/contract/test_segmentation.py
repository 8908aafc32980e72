"""Semantic segmenters owe the trainer what every system does."""

from tests.contract.contract import Contract
from tests.systems import SEGMENTATION


class TestSegmentation(Contract):
    systems = SEGMENTATION
