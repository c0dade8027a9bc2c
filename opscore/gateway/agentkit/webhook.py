"""The signature of AgentKit's webhook."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final

from opscore.gateway.wire.problems import HttpRefusal

AGE_S_MAX: Final = 300.0


def verify(secret: str, timestamp: str | None, signature: str | None, body: bytes, now: float) -> str:
    """Check the hex HMAC-SHA256 over `timestamp + "." + body`, and that the timestamp is within 300 s of now.

    Returns:
        the signature, which identifies this message.

    Raises:
        HttpRefusal: 401.
    """
    if not timestamp or not signature:
        raise _refused("The webhook must be signed: X-AgentKit-Timestamp and X-AgentKit-Signature are missing.")
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.strip().lower().encode()):
        raise _refused("The webhook's signature is wrong.")
    at = _moment(timestamp)
    if at is None or not abs(now - at) <= AGE_S_MAX:
        raise _refused(f"The webhook's timestamp is not within {AGE_S_MAX:g} s of now.")
    return expected


def _moment(text: str) -> float | None:
    """Read Unix seconds or ISO 8601; both are in use."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _refused(detail: str) -> HttpRefusal:
    return HttpRefusal(401, "bad_signature", detail, headers={"WWW-Authenticate": 'Signature realm="opscore"'})
