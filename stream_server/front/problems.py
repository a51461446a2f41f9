"""Errors as HTTP: problem details (RFC 9457) with a stable `code`."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

__all__ = ["from_answer", "http_problem", "invalid_request", "problem"]

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Wrong media type",
    421: "Wrong host",
    422: "Cannot be done",
    429: "Too many requests",
    500: "Server error",
    503: "Not available now",
}


def problem(status: int, code: str, detail: str, *, retry_after_s: int | None = None, **more: Any) -> JSONResponse:
    """One problem document; `more` are further members."""
    body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status}
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        body | {"code": code, "detail": detail} | more,
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def from_answer(answer: dict[str, Any]) -> JSONResponse | None:
    """The problem a worker answered with, or None if all is well."""
    if answer["type"] != "problem":
        return None
    return problem(answer["status"], answer["code"], answer["detail"], retry_after_s=answer.get("retry_after_s"))


async def invalid_request(_request: Request, error: Exception) -> JSONResponse:
    """What pydantic found wrong, a line each; the values are not repeated: they may be speech or SDP."""
    assert isinstance(error, RequestValidationError)
    places = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:5]]
    return problem(422, "invalid", "; ".join(places)[:1000])


async def http_problem(_request: Request, error: Exception) -> JSONResponse:
    """Starlette's own refusals (404, 405) in the same form."""
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, f"http-{error.status_code}", str(error.detail))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
