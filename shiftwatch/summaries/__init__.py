"""From arrays to values that merge: moments, tallies, histogram and units of a window."""

from shiftwatch.summaries.block import Block as Block
from shiftwatch.summaries.block import Rows as Rows
from shiftwatch.summaries.block import measure as measure
from shiftwatch.summaries.histogram import Histogram as Histogram
from shiftwatch.summaries.lots import Activity as Activity
from shiftwatch.summaries.lots import Calls as Calls
from shiftwatch.summaries.lots import Part as Part
from shiftwatch.summaries.lots import survey as survey
from shiftwatch.summaries.lots import surveying as surveying
from shiftwatch.summaries.moments import Moments as Moments
from shiftwatch.summaries.summarize import summarize as summarize
from shiftwatch.summaries.summary import Summary as Summary
from shiftwatch.summaries.summary import Tallies as Tallies
from shiftwatch.summaries.units import Units as Units
