from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    PASS: _ClassVar[Outcome]
    REVIEW: _ClassVar[Outcome]
    BLOCK: _ClassVar[Outcome]

class Arm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARM_UNSPECIFIED: _ClassVar[Arm]
    STABLE: _ClassVar[Arm]
    CANARY: _ClassVar[Arm]
    CONTROL: _ClassVar[Arm]
OUTCOME_UNSPECIFIED: Outcome
PASS: Outcome
REVIEW: Outcome
BLOCK: Outcome
ARM_UNSPECIFIED: Arm
STABLE: Arm
CANARY: Arm
CONTROL: Arm

class Transaction(_message.Message):
    __slots__ = ("transaction_id", "event_time", "card_id", "merchant_id", "amount_minor", "amount_base_minor", "currency", "merchant_category", "channel", "device_id", "ip", "latitude", "longitude", "city", "country")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    CARD_ID_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_BASE_MINOR_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_CATEGORY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    CITY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    event_time: int
    card_id: str
    merchant_id: str
    amount_minor: int
    amount_base_minor: int
    currency: str
    merchant_category: str
    channel: str
    device_id: str
    ip: str
    latitude: float
    longitude: float
    city: str
    country: str
    def __init__(self, transaction_id: _Optional[str] = ..., event_time: _Optional[int] = ..., card_id: _Optional[str] = ..., merchant_id: _Optional[str] = ..., amount_minor: _Optional[int] = ..., amount_base_minor: _Optional[int] = ..., currency: _Optional[str] = ..., merchant_category: _Optional[str] = ..., channel: _Optional[str] = ..., device_id: _Optional[str] = ..., ip: _Optional[str] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., city: _Optional[str] = ..., country: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "transaction_id", "outcome", "score", "reason_codes", "reason_vocabulary", "model", "arm", "rule_hits", "degraded", "generation", "missing_features", "control_propensity", "unexplained")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASON_CODES_FIELD_NUMBER: _ClassVar[int]
    REASON_VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    RULE_HITS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MISSING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONTROL_PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    UNEXPLAINED_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    transaction_id: str
    outcome: Outcome
    score: float
    reason_codes: _containers.RepeatedScalarFieldContainer[str]
    reason_vocabulary: int
    model: ModelVersion
    arm: Arm
    rule_hits: _containers.RepeatedCompositeFieldContainer[RuleHit]
    degraded: Degraded
    generation: int
    missing_features: _containers.RepeatedScalarFieldContainer[str]
    control_propensity: float
    unexplained: str
    def __init__(self, decision_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., score: _Optional[float] = ..., reason_codes: _Optional[_Iterable[str]] = ..., reason_vocabulary: _Optional[int] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., arm: _Optional[_Union[Arm, str]] = ..., rule_hits: _Optional[_Iterable[_Union[RuleHit, _Mapping]]] = ..., degraded: _Optional[_Union[Degraded, _Mapping]] = ..., generation: _Optional[int] = ..., missing_features: _Optional[_Iterable[str]] = ..., control_propensity: _Optional[float] = ..., unexplained: _Optional[str] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RuleHit(_message.Message):
    __slots__ = ("rule", "action", "reason_code")
    RULE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    action: Outcome
    reason_code: str
    def __init__(self, rule: _Optional[str] = ..., action: _Optional[_Union[Outcome, str]] = ..., reason_code: _Optional[str] = ...) -> None: ...

class Degraded(_message.Message):
    __slots__ = ("cause", "fallback", "detail")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[Degraded.Cause]
        MODEL_UNAVAILABLE: _ClassVar[Degraded.Cause]
        MODEL_LATE: _ClassVar[Degraded.Cause]
        MODEL_FAILED: _ClassVar[Degraded.Cause]
        FEATURES_UNAVAILABLE: _ClassVar[Degraded.Cause]
    CAUSE_UNSPECIFIED: Degraded.Cause
    MODEL_UNAVAILABLE: Degraded.Cause
    MODEL_LATE: Degraded.Cause
    MODEL_FAILED: Degraded.Cause
    FEATURES_UNAVAILABLE: Degraded.Cause
    class Fallback(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FALLBACK_UNSPECIFIED: _ClassVar[Degraded.Fallback]
        STABLE_MODEL: _ClassVar[Degraded.Fallback]
        RULES_ALONE: _ClassVar[Degraded.Fallback]
        REVIEW_ALL: _ClassVar[Degraded.Fallback]
    FALLBACK_UNSPECIFIED: Degraded.Fallback
    STABLE_MODEL: Degraded.Fallback
    RULES_ALONE: Degraded.Fallback
    REVIEW_ALL: Degraded.Fallback
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    cause: Degraded.Cause
    fallback: Degraded.Fallback
    detail: str
    def __init__(self, cause: _Optional[_Union[Degraded.Cause, str]] = ..., fallback: _Optional[_Union[Degraded.Fallback, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class ScoreBatch(_message.Message):
    __slots__ = ("batch_id", "transactions")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    transactions: _containers.RepeatedCompositeFieldContainer[Transaction]
    def __init__(self, batch_id: _Optional[int] = ..., transactions: _Optional[_Iterable[_Union[Transaction, _Mapping]]] = ...) -> None: ...

class ScoreBatchResult(_message.Message):
    __slots__ = ("batch_id", "results")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    results: _containers.RepeatedCompositeFieldContainer[ScoreResult]
    def __init__(self, batch_id: _Optional[int] = ..., results: _Optional[_Iterable[_Union[ScoreResult, _Mapping]]] = ...) -> None: ...

class ScoreResult(_message.Message):
    __slots__ = ("decision", "refusal")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    refusal: Refusal
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("transaction_id", "field", "message")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    field: str
    message: str
    def __init__(self, transaction_id: _Optional[str] = ..., field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class OutcomeReport(_message.Message):
    __slots__ = ("transaction_id", "is_fraud", "label_time", "reported_by")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    IS_FRAUD_FIELD_NUMBER: _ClassVar[int]
    LABEL_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORTED_BY_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    is_fraud: bool
    label_time: int
    reported_by: str
    def __init__(self, transaction_id: _Optional[str] = ..., is_fraud: _Optional[bool] = ..., label_time: _Optional[int] = ..., reported_by: _Optional[str] = ...) -> None: ...

class OutcomeReceipt(_message.Message):
    __slots__ = ("recorded",)
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    recorded: bool
    def __init__(self, recorded: _Optional[bool] = ...) -> None: ...
