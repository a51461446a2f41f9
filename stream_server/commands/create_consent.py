"""The consent that `nerf-lipsync create` asks for: from its options, or from a file that `avatar.json` also holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.provenance.consent import Consent

LONGEST_FILE_NAME = 200
WHY_CONSENT = (
    "an avatar shows a person, so it needs that person's consent: give --consent FILE.json, or --consent-person NAME, "
    "--consent-by WHO, --consent-date YYYY-MM-DD and --consent-statement TEXT"
)


def given_consent(
    file: Path | None, person: str, by: str, date: str, statement: str, scope: str, expires: str | None
) -> Consent:
    """The consent, checked as servers will check it.

    Raises:
        ModelError: Something is missing, given twice, not a date, already expired or dated in the future, or a file
            cannot be read as UTF-8 text.
    """
    from model.errors import InputError
    from model.provenance.consent import Consent, validate_consent

    if file is not None:
        if any((person, by, date, statement, scope, expires)):
            raise InputError(f"--consent {file} already says all; leave the other --consent options out")
        consent = read_consent(file)
    else:
        if not all(text.strip() for text in (person, by, date, statement)):
            raise InputError(WHY_CONSENT)
        text = _text_or_file(statement)
        consent = Consent(person=person, statement=text, given_by=by, date=date, scope=scope, expires=expires)
    validate_consent(consent)
    today = dt.datetime.now(dt.UTC).date()  # as `check_consent` has it: said now, not after the training
    if dt.date.fromisoformat(consent.date) > today:
        raise InputError(f"the consent is dated {consent.date}, and today is {today} (UTC)")
    if consent.expires is not None and dt.date.fromisoformat(consent.expires) < today:
        raise InputError(f"the consent expired on {consent.expires}; ask {consent.given_by} to renew it")
    return consent


def read_consent(file: Path) -> Consent:
    """`{"person", "statement", "given_by", "date"}` and, if wanted, `scope` and `expires`.

    Raises:
        InputError: The file cannot be read, or says something else.
    """
    from model.config import config_from_json
    from model.errors import ConfigError, InputError
    from model.provenance.consent import Consent

    text = _read_text(file)
    try:
        return config_from_json(Consent, text)
    except ConfigError as error:
        raise InputError(
            f'{file}: consent is {{"person", "statement", "given_by", "date", "scope", "expires"}}: {error}'
        ) from error


def _text_or_file(statement: str) -> str:
    file = Path(statement)
    try:
        is_file = len(statement) < LONGEST_FILE_NAME and file.is_file()
    except (OSError, ValueError):  # no name that a file could have
        is_file = False
    return _read_text(file) if is_file else statement


def _read_text(file: Path) -> str:
    from model.errors import InputError

    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read the consent {file}: {error.strerror}") from error
