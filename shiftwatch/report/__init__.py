"""The report: one self-contained HTML page of a run, and one that compares runs.

    run -> timeline (columns of time) -> packing (bytes) -> page (HTML with its own script)

The words and the incident cards are plain HTML and read without JavaScript; the charts are
drawn by the page's own module. Nothing is loaded from anywhere, which the page's own
Content-Security-Policy enforces, and no name from the run can become markup.
"""

from shiftwatch.report.comparison import render_comparison as render_comparison
from shiftwatch.report.page import render as render
from shiftwatch.report.page import update as update
from shiftwatch.report.page import write as write
