"""Comparison: where one run departs from another, layer by layer, and since when.

Runs are aligned (``alignment``), layers matched (``matching``), what matters is measured
(``measures``, ``schedules``), judged (``departure``) and said (``words``); ``compare`` does it all, ``junit``
writes what CI reads.
"""

from shiftwatch.comparison.alignment import ALIGNMENTS as ALIGNMENTS
from shiftwatch.comparison.comparing import compare as compare
from shiftwatch.comparison.matching import Pair as Pair
from shiftwatch.comparison.measures import LIMITS as LIMITS
from shiftwatch.comparison.result import GRADES as GRADES
from shiftwatch.comparison.result import Against as Against
from shiftwatch.comparison.result import Comparison as Comparison
from shiftwatch.comparison.result import Difference as Difference
from shiftwatch.comparison.schedules import Schedules as Schedules
