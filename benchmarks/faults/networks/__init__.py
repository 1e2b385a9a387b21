"""The networks: seven families, in three lists that share no architecture.

Modules are registered in the order in which they are called, so that a layer's neighbours are
known. What a fault may lay its hands on, such as a shortcut or a mask, is a plain attribute, and the
last child of a model is its head.
"""

from benchmarks.faults.networks.calibration import CALIBRATION
from benchmarks.faults.networks.design import DESIGN
from benchmarks.faults.networks.former import FORMER
from benchmarks.faults.networks.gan import Forgers
from benchmarks.faults.networks.network import Network, skeleton
from benchmarks.faults.networks.parts import Block
from benchmarks.faults.networks.test import TEST
from benchmarks.faults.networks.transformer import Attention

__all__ = ["BY_NAME", "NETWORKS", "Attention", "Block", "Forgers", "Network", "skeleton"]

#: The three lists by their names; those of former test sets are designed on like the others.
NETWORKS = {"design": (*DESIGN, *FORMER), "calibration": CALIBRATION, "test": TEST}

#: Every network by its name.
BY_NAME = {network.name: network for networks in NETWORKS.values() for network in networks}
