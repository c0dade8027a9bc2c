"""The JSON Schema of a workflow document: its fields, their types and their ranges.

It is data, so that editors and the OpenAPI document can use the schema that validates.
"""

from typing import Any, Final

_ID: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 128}
_SECONDS: Final[dict[str, Any]] = {"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000}
_PRIORITY: Final[dict[str, Any]] = {"type": "integer", "minimum": 0, "maximum": 9}
_RETRY: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "maxRetries": {"type": "integer", "minimum": 0, "maximum": 1_000},
        "initialDelaySeconds": {"type": "number", "minimum": 0, "maximum": 86_400},
        "backoffCoefficient": {"type": "number", "minimum": 1, "maximum": 100},
        "maxDelaySeconds": {"type": "number", "minimum": 0, "maximum": 31_536_000},
        "jitter": {"type": "boolean"},
        "nonRetryable": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
    },
}
_PER_TASK: Final[dict[str, Any]] = {
    "retry": _RETRY,
    "timeoutSeconds": _SECONDS,
    "leaseSeconds": _SECONDS,
    "heartbeatSeconds": _SECONDS,
    "scheduleToStartSeconds": _SECONDS,
    "scheduleToCloseSeconds": _SECONDS,
    "priority": _PRIORITY,
}
_TASK: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["taskId"],
    "properties": {
        "taskId": _ID,
        "name": {"type": "string", "maxLength": 256},
        "description": {"type": ["string", "null"]},
        "type": {"enum": ["agent", "tool", "signal", "delay", "workflow"]},
        "agentCapability": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
        "agentId": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
        "parameters": {"type": ["object", "null"]},
        "nextTaskId": {"type": ["string", "null"]},
        "dependsOn": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "fallbackTaskId": {"type": ["string", "null"]},
        "compensateTaskId": {"type": ["string", "null"]},
        "continueOnFailure": {"type": "boolean"},
        "idempotent": {"type": "boolean"},
        "concurrencyKey": {"type": ["string", "null"], "minLength": 1, "maxLength": 2_048},
        "when": {"type": ["string", "null"], "minLength": 1},
        "forEach": {"type": ["string", "array", "null"], "minLength": 1},
        "concurrency": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "labels": {"type": "object"},
        "metadata": {"type": "object"},
        **_PER_TASK,
    },
}
WORKFLOW_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Workflow definition",
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "tasks"],
    "properties": {
        "id": _ID,
        "name": {"type": "string", "maxLength": 256},
        "version": {"type": "string", "maxLength": 64},
        "description": {"type": ["string", "null"]},
        "defaults": {"type": "object", "additionalProperties": False, "properties": _PER_TASK},
        "tasks": {"type": "array", "items": _TASK},
        "onFailure": {"type": ["string", "null"]},
        "sessionTimeoutSeconds": _SECONDS,
        "outputs": {},
        "inputSchema": {"type": ["object", "null"]},
        "labels": {"type": "object"},
        "metadata": {"type": "object"},
    },
}
