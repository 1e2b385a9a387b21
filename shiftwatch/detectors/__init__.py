"""Detectors: from a series of floats to "now". A frozen configuration, its state outside.

    state = detector.init(shape)
    state, fired = detector.update(state, value)

All detectors work on whole arrays: one call judges every site. NaN means "not seen" and
leaves the state as it is. A state is a NamedTuple of arrays, so saving it saves all.
"""

from shiftwatch.detectors.cusum import Cusum as Cusum
from shiftwatch.detectors.e_detector import EDetector as EDetector
from shiftwatch.detectors.jump import Jump as Jump
from shiftwatch.detectors.shewhart import Shewhart as Shewhart
from shiftwatch.detectors.threshold import Threshold as Threshold
