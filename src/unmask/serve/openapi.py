"""The description of the API as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html).

Written by hand: endpoints take a request's body as it arrives, which no type of theirs says.
"""

from typing import Any

from unmask.answers.answers_file import RunInfo
from unmask.answers.file_says import FileSays
from unmask.records import Reason
from unmask.scoring.verdicts import Doubt, Verdict
from unmask.serve.queue import Limits

Schema = dict[str, Any]

# By status: what `error` may be, and when. docs/serve.md says more.
ERRORS: dict[int, tuple[tuple[str, ...], str]] = {
    400: (("no_file", "cancelled", "bad_request"), "There is no file, or the upload broke off."),
    401: (("no_password",), "A password is set, and the request has none or a wrong one."),
    403: (("cross_site",), "The request comes from a page of another site."),
    404: (("not_found",), "No such address."),
    405: (("method",), "This address does not answer that method; `Allow` lists those it does."),
    408: (("stalled", "too_slow"), "The upload stood still, or was too slow."),
    413: (("too_large",), "The file is larger than this server takes."),
    414: (("too_long_address",), "The address is too long."),
    415: (("not_a_video",), "The file is empty, or the decoder finds no video in it."),
    421: (("wrong_host",), "The request's Host is not a name of this server."),
    422: (
        ("too_long", "unreadable", "crashed", "out_of_memory"),
        "The video is too long, or can't be decoded.",
    ),
    429: (("full", "too_many_passwords"), "No place is free: `Retry-After` says for how long."),
    431: (("too_many_headers",), "There are too many headers."),
    500: (("broken",), "A fault of this program; the server's log has more."),
    503: (("cancelled", "busy"), "The server is ending, or takes no more connections."),
    504: (("timed_out",), "The answer took longer than this server allows."),
    507: (("failed",), "The machine could not do it, for example because its disk is full."),
}  # fmt: skip
_ANY = (
    401,
    404,
    405,
    413,
    414,
    421,
    431,
    500,
    503,
)  # of every address; 401 where there is a password
_UPLOAD = (400, 403, 408, 415, 422, 429, 504, 507)

EXAMPLE: dict[str, Any] = {
    "path": "clip.mp4",
    "verdict": "fake",
    "probability": 0.9876,
    "doubts": [],
    "reason": None,
    "detail": "",
    "promise": {
        "kind": "phones, daylight", "genuine": 120, "fakes": 60, "max_false_alarms": 0.05,
        "power": 0.8, "power_low": 0.68, "power_high": 0.88,
    },
    "worst": [{"face": 0, "time_s": 2.5, "probability": 0.9991}],
    "stretch": {"face": 0, "start_s": 1.6, "end_s": 4.4, "probability": 0.998},
    "faces": [
        {
            "track": 0, "start_s": 0.0, "end_s": 6.2, "probability": 0.9876, "verdict": "fake",
            "doubts": [], "face_px": 212.0, "track_s": 6.2, "sharpness": 0.021, "brightness": 0.46,
            "looked_at_ratio": 1.0, "likeness": 0.41,
            "stretch": {"start_s": 1.6, "end_s": 4.4, "probability": 0.998},
            "timeline": [{"time_s": 2.5, "probability": 0.9991}],
        }
    ],
    "duration_s": 6.24,
    "clip_s": 1.2,
    "bytes": 1048576,
    "mtime_ns": None,
    "sha256": "0f" * 32,
    "model": "a1" * 32,
    "version": "0.1.0",
    "file_says": {
        "credentials": {
            "state": "absent", "detail": "", "signer": "", "organisation": "", "signed_at": "",
            "generators": [], "actions": [], "ingredients": [], "faults": [], "left_out": 0,
        },
        "container": {"encoder": "Lavf61.7.100"},
    },
}  # fmt: skip


def describe(
    limits: Limits, run_info: RunInfo, *, has_password: bool, has_files: bool = False
) -> dict[str, Any]:
    """Return the description of a server with these limits."""
    body: dict[str, Any] = {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                },
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    if has_files:
        body["content"]["application/json"] = {
            "schema": {
                "type": "object",
                "required": ["path"],
                "properties": {
                    "path": {
                        "type": "string",
                        "description": "Of a file below the folder that the server was given.",
                    }
                },
                "additionalProperties": False,
            },
            "example": {"path": "2026/clip.mp4"},
        }
    name = {
        "name": "name", "in": "query", "schema": {"type": "string"}, "example": "clip.mp4",
        "description": "The file's name, where the body is the file itself.",
    }  # fmt: skip
    upload = {
        "parameters": [name],
        "requestBody": body,
        "description": f"At most {limits.max_bytes} bytes and {limits.max_video_s:g} s. The answer "
        "comes when the video's turn has come; whoever hangs up stops the work.",
    }
    answer = {"application/json": {"schema": _ref("Answer"), "example": EXAMPLE}}
    page = {"text/html": {"schema": {"type": "string"}}}
    ready = {"ready": True, "model": run_info.model, "version": run_info.version}
    metrics = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "unmask",
            "version": run_info.version,
            "description": "Answers whether a video shows a fake face. A score is evidence, not "
            "proof.",
        },
        "servers": [{"url": "."}],  # beside this document, whatever path a proxy has before it
        "paths": {
            "/api/predict": {
                "post": {
                    "operationId": "predict", "summary": "The answer as JSON", **upload,
                    "responses": _responses(answer, "The answer.", (*_ANY, *_UPLOAD)),
                }
            },
            "/api/report": {
                "post": {
                    "operationId": "report", "summary": "The answer as a page", **upload,
                    "responses": _responses(page, "The report.", (*_ANY, *_UPLOAD)),
                }
            },
            "/api/health": _probe("health", "Whether it answers, and by which model", ready),
            "/readyz": _probe("ready", "Whether it answers videos", {"ready": True}),
            "/healthz": _probe("alive", "Whether it answers requests", {"alive": True}),
            "/metrics": {
                "get": {
                    "operationId": "metrics", "summary": "Metrics for Prometheus",
                    "responses": _responses(metrics, "All metrics.", (*_ANY, 403, 429)),
                }
            },
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"password": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"password": []}] if has_password else [],
    }  # fmt: skip


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _responses(content: Schema, words: str, statuses: tuple[int, ...]) -> Schema:
    found: Schema = {"200": {"description": words, "content": content}}
    for status in sorted(statuses):
        kinds, when = ERRORS[status]
        schema = {
            "allOf": [_ref("Error"), {"properties": {"error": {"enum": list(kinds)}}}],
        }
        example = {"error": kinds[0], "detail": when}
        found[str(status)] = {
            "description": when,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    return found


def _probe(name: str, words: str, example: dict[str, Any]) -> Schema:
    content = {
        "application/json": {
            "schema": {
                "type": "object",
                "required": list(example),
                "properties": {
                    key: {"type": "boolean" if value is True else "string"}
                    for key, value in example.items()
                },
            },
            "example": example,
        }
    }
    responses = _responses(content, words, tuple(s for s in _ANY if s not in (401, 503)))
    if "ready" in example:
        responses["503"] = {"description": "It does not answer videos now.", "content": content}
    return {"get": {"operationId": name, "summary": words, "security": [], "responses": responses}}


# ---------------------------------------------------------------- schemas


def _object(required: dict[str, Schema], *, others: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object", "required": list(required), "properties": {**required, **(others or {})}
    }  # fmt: skip


def _maybe(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _schemas() -> dict[str, Schema]:
    number, text, whole = {"type": "number"}, {"type": "string"}, {"type": "integer"}
    score: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    verdict: Schema = {"type": "string", "enum": [str(each) for each in Verdict]}
    doubts = _list_of({"type": "string", "enum": [str(each) for each in Doubt]})
    digest: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    stretch = {"start_s": number, "end_s": number, "probability": score}
    moment = {"time_s": number, "probability": score}
    face = _object(
        {
            "track": whole, "start_s": number, "end_s": number, "probability": score,
            "verdict": verdict, "doubts": doubts, "face_px": number, "track_s": number,
            "sharpness": number, "brightness": number, "looked_at_ratio": score,
            "likeness": _maybe("number"), "stretch": _object(stretch),
            "timeline": _list_of(_object(moment)),
        }
    )  # fmt: skip
    promise = _object(
        {
            "kind": text, "genuine": whole, "fakes": whole, "max_false_alarms": score,
            "power": _maybe("number"), "power_low": _maybe("number"),
            "power_high": _maybe("number"),
        }
    )  # fmt: skip
    none: Schema = {"type": "null"}
    says = FileSays.model_json_schema(ref_template="#/components/schemas/{model}")
    answer = _object(
        {
            "path": {**text, "description": "The name that the sender gave."},
            "verdict": verdict,
            "probability": {
                "anyOf": [score, none],
                "description": "That the most suspicious face is fake; null without an answer.",
            },
            "doubts": doubts,
            "reason": {"enum": [*(str(each) for each in Reason), None]},
            "detail": text,
            "promise": {"anyOf": [_ref("Promise"), none]},
            "worst": _list_of(_object({"face": whole, **moment})),
            "stretch": {"anyOf": [_object({"face": whole, **stretch}), none]},
            "faces": _list_of(_ref("Face")),
            "duration_s": _maybe("number"),
            "clip_s": number,
            "bytes": _maybe("integer"),
            "mtime_ns": none,
            "sha256": {"anyOf": [digest, none]},
            "model": digest,
            "version": text,
            "file_says": _ref("FileSays"),
        },
        others={"licence": text, "model_source": text},
    )
    return {
        "Answer": answer,
        "Face": face,
        "Promise": promise,
        "Error": _object({"error": text, "detail": text}),
        **says.pop("$defs"),
        "FileSays": says,
    }
