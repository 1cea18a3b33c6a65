"""How a gateway listens, waits and decides: what may differ between two of them that serve the same source."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import ConfigurationError


@dataclass(frozen=True)
class Settings:
    """Where the gateway listens, and its bounds.

    Attributes:
        model_server: HOST:PORT of the model server.
        model_name: of the model there.
        port: of gRPC; 0 takes a free one.
        metrics_port: of /metrics; 0 takes a free one.
        model_deadline_s: how long an arm's model may take to answer, its queue included.
        explain_deadline_s: how long a model may take to say what weighed in a score that asks for REVIEW or BLOCK; the
            decision waits for it.
        features_deadline_s: how long the feature store may take, its queue included.
        reserve_s: of a client's deadline, what is kept for rules, decision log and answer.
        control_share: share of what would be blocked that passes as a control, in [0, 1].
        max_waiting: transactions in work at once; of more, single ones are refused and streams wait.
        max_explained: decisions that wait for the model's reasons at once; of more, the rest go without.
        max_shadows: transactions that wait for the candidate's opinion aside; of more, the rest go without.
        max_ahead_s: by how many seconds the time of a label may be ahead of the gateway's clock.
        feature_batch: most transactions in one step of the feature store, which holds up all of them.
        model_batch: most transactions in one request to the model server.
        model_requests: requests to the model server under one label at once.
        log_batch: most decisions in one commit of the log.
        feature_window: over how many of the latest transactions /metrics describes the features.
        poll_s: seconds between two looks at the rollout table.
        grace_s: what calls in work have left when the gateway stops.

    Raises:
        ConfigurationError: a value is out of range.
    """

    model_server: str
    model_name: str = "fraud"
    host: str = "127.0.0.1"
    port: int = 8600
    metrics_port: int = 8601
    model_deadline_s: float = 0.05
    explain_deadline_s: float = 0.05
    features_deadline_s: float = 1.0
    reserve_s: float = 0.01
    control_share: float = 0.0
    max_waiting: int = 4_096
    max_explained: int = 4
    max_shadows: int = 1_024
    max_ahead_s: int = 300
    feature_batch: int = 16
    model_batch: int = 64
    model_requests: int = 2
    log_batch: int = 64
    feature_window: int = 1_000
    poll_s: float = 0.2
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.control_share <= 1:
            raise ConfigurationError(f"control share {self.control_share} is not a share; use 0 to 1")
        for name in ("model_deadline_s", "explain_deadline_s", "features_deadline_s", "poll_s", "max_waiting"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be above 0")
