"""The run on disk: one writer, any number of readers, no window lost to a crash.

A run folder holds one folder per attempt, so that nothing is ever overwritten::

    RUN/lock                 held by the operating system while somebody writes
    RUN/attempt-001/
        meta.json            format, versions, configuration, started, finished
        sites.jsonl          what the columns stand for; grows
        log.jsonl            alerts, incidents, events, resumes; grows
        000041.tail          the newest windows, a frame each; grows
        000040.seg           older windows by column, compressed; written once, replaced whole
        rank-1/ …            the same for the other ranks of a job

A frame carries its length and checksums, so a reader knows what is whole. When a tail is
full it is packed into the segment of the same number and removed; when an attempt outgrows
its limit, two neighbouring segments become one. Every window has a serial number, by which
a reader that meets it twice on the way counts it once.

What a reader does not know it ignores, and what an older writer did not keep is unknown: runs
from before learning rates, dead units or sums of histograms were kept open as ever, without them.
"""

from shiftwatch.store.reader import open_run as open_run
from shiftwatch.store.writer import Writer as Writer
