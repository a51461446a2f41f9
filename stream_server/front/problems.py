"""Errors as HTTP: problem details (RFC 9457) with a stable `code`."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

__all__ = ["from_answer", "problem"]

_TITLES = {
    401: "Unauthorized",
    404: "Not found",
    421: "Wrong host",
    422: "Offer refused",
    500: "Server error",
    503: "Not available now",
}


def problem(status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> JSONResponse:
    """One problem document."""
    body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status}
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        body | {"code": code, "detail": detail},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def from_answer(answer: dict[str, Any]) -> JSONResponse | None:
    """The problem a worker answered with, or None if all is well."""
    if answer["type"] != "problem":
        return None
    return problem(answer["status"], answer["code"], answer["detail"], retry_after_s=answer.get("retry_after_s"))
