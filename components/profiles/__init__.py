"""Profiles of data: a compact, mergeable summary per feature and segment, and what two of them tell of drift.

layout      which bins, values and segments are counted; fixed by the baseline, so that profiles can be subtracted
counting    a profile: the counts of some rows in a layout
sketch      numbers by magnitude, and the compiled pass that counts a column
repeats     a sample of rows by their signature, in which a day that comes twice is seen
measures    the statistics of two profiles
faults      the statistics of faults: unit, time zone, repeated day, label leak
calibration thresholds from week-to-week history
baseline    a profile with the thresholds of its history, as one file
findings    what lies above its threshold, and the reasons for the gate
periods     which rows of a run are compared with a baseline
examine     the whole look: from rows to the report and its pictures
report      the result, as one file
pictures    what of it can be seen
config      what of it is a choice
"""

from components.profiles.baseline import Baseline, learn
from components.profiles.calibration import Calibration, Thresholds, calibrate, weeks
from components.profiles.counting import Profile, merge, profile
from components.profiles.findings import Comparison, Finding, compare, reasons
from components.profiles.layout import ALL, Layout, LayoutConfig, lay_out
from components.profiles.measures import Support

__all__ = [
    "ALL",
    "Baseline",
    "Calibration",
    "Comparison",
    "Finding",
    "Layout",
    "LayoutConfig",
    "Profile",
    "Support",
    "Thresholds",
    "calibrate",
    "compare",
    "lay_out",
    "learn",
    "merge",
    "profile",
    "reasons",
    "weeks",
]
