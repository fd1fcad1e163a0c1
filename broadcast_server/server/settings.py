"""Settings: everything that `start` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.trusted_proxies import TrustedProxies
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES

from .api import Timeouts


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server. Times are in seconds."""

    host: str = "127.0.0.1"
    port: int = 8765
    unix: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    log_messages: int = DEFAULT_MAX_MESSAGES
    log_bytes: int = DEFAULT_MAX_BYTES
    log: Path | None = None
    log_sync: bool = False
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    operator_key: str | None = field(default=None, repr=False)
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    heartbeat_interval: float = 25.0
    grace: float = 5.0
