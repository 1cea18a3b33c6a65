"""What of drift is a choice: how finely profiles are laid out, how thresholds are calibrated, what stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.gate import Severity
from components.profiles.calibration import Calibration
from components.profiles.layout import LayoutConfig
from components.profiles.measures import Statistic, Support


@dataclass(frozen=True)
class DriftConfig:
    """How drift is measured, and what it means.

    Attributes:
        layout, calibration, support: of the baseline that a run learns; later ones are compared by those of their
            champion.
        severities: by statistic whether a finding warns or stops, where it is not as usual: drift warns, faults of
            unit and time zone, repeated days and label leaks stop.
    """

    layout: LayoutConfig = field(default_factory=LayoutConfig)
    calibration: Calibration = field(default_factory=Calibration)
    support: Support = field(default_factory=Support)
    severities: Mapping[Statistic, Severity] = field(default_factory=dict)
