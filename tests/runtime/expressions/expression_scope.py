"""A scope that expressions of the tests read, and how their values are compared."""

import json
from typing import Any

SCOPE: dict[str, Any] = {
    "input": {
        "n": 4, "f": 4.0, "half": 0.5, "list": [1, 2, 3], "none": None, "text": "é", "yes": True, "big": 2**70,
        "orders": [{"id": "a", "price": 5, "paid": True}, {"id": "b", "price": 12.5}],
        "a-b": 1, "huge": 1e308,
    },
    "tasks": {"scan": {"status": "completed", "result": {"found": 2}}, "a b": {"status": "failed"}},
    "item": {"id": 7},
    "index": 0,
}  # fmt: skip


def exactly(found: Any, expected: Any) -> bool:
    """Equal, and of the same types: Python takes 1, 1.0 and True for equal."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
