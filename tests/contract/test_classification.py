"""Classifiers owe the trainer what every system does."""

from tests.contract.contract import Contract
from tests.systems import CLASSIFICATION


class TestClassification(Contract):
    systems = CLASSIFICATION
