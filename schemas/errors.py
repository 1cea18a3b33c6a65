"""Every error that fraudops raises on purpose.

    FraudOpsError                 the root; the command line prints its message and exits with 2
    |-- ConfigurationError        a setting is missing, unknown or out of range
    |-- DeclarationError          a feature declaration cannot be computed as written
    |-- MappingError              a source mapping is malformed
    |-- LogError                  a transaction log cannot be read at all (absent, empty, truncated, binary)
    |   `-- LogColumnsError       the log is readable, but columns that its mapping needs are not in it
    |-- ArtifactError             an artifact on disk is absent, incomplete or not what it claims to be
    |   `-- DigestMismatchError   the bytes on disk are not those that were recorded
    |-- RegistryError             the model registry refuses, or does not hold, what was asked for
    |-- ApprovalError             an approval, rejection or revocation is against the rules
    |-- OutcomeReportError        a reported outcome contradicts what is known of its transaction
    |   `-- UnknownTransactionError   nobody decided on the transaction
    |-- RefusedTransaction        a transaction at the gateway's door cannot be decided as it is
    |-- FeatureStoreError         a feature store cannot be reached, or does not do what it is asked
    |-- ModelServerError          a model server cannot be reached, or refuses what it is told to serve
    |-- ScoringError              a call of the scoring API failed
    |-- StackError                the processes of a stack cannot be started, or do not end
    `-- BenchmarkError            the sides of a benchmark computed different things

A failed gate is not an error: it is a verdict with reasons.  A bad row is not an error either: it goes to the dead
letters.  A message names the offending value, where it came from, and what to do.
"""


class FraudOpsError(Exception):
    """Root of the tree."""


class ConfigurationError(FraudOpsError):
    """A setting is missing, unknown or out of range."""


class DeclarationError(FraudOpsError):
    """A feature declaration cannot be computed as written."""


class MappingError(FraudOpsError):
    """A source mapping is malformed."""


class LogError(FraudOpsError):
    """A transaction log cannot be read at all."""


class LogColumnsError(LogError):
    """A readable log lacks columns that its mapping needs."""


class ArtifactError(FraudOpsError):
    """An artifact on disk is absent, incomplete or not what it claims to be."""


class DigestMismatchError(ArtifactError):
    """The bytes on disk are not those that were recorded."""


class RunOrderError(FraudOpsError):
    """A node of a run is asked for before those that it needs have a result."""


class RegistryError(FraudOpsError):
    """The model registry refuses, or does not hold, what was asked for."""


class ApprovalError(FraudOpsError):
    """An approval, rejection or revocation is against the rules."""


class RefusedTransaction(FraudOpsError):
    """A transaction at the gateway's door cannot be decided as it is.

    Attributes:
        field: of the scoring API's Transaction, the one that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class FeatureStoreError(FraudOpsError):
    """A feature store cannot be reached, or does not do what it is asked."""


class ModelServerError(FraudOpsError):
    """A model server cannot be reached, or refuses what it is told to serve."""


class ScoringError(FraudOpsError):
    """A call of the scoring API failed.

    Attributes:
        code: name of the gRPC status, such as `DEADLINE_EXCEEDED`.
        field: the field that is wrong, where the gateway names one; else empty.
    """

    def __init__(self, message: str, code: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class OutcomeReportError(FraudOpsError):
    """A reported outcome contradicts what is known of its transaction."""


class UnknownTransactionError(OutcomeReportError):
    """A report is about a transaction that nobody decided on."""


class StackError(FraudOpsError):
    """The processes of a stack cannot be started, or do not end."""


class BenchmarkError(FraudOpsError):
    """The sides of a benchmark computed different things."""
