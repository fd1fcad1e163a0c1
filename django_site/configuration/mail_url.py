"""The address of the mail server, as Django's settings for it, and the sender of mail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .query_option import parse_options, seconds
from .service_url import ServiceURL

MAIL = ("smtp", "smtp+tls", "smtp+ssl", "smtps", "filemail", "consolemail")

TIMEOUT_S = 10
"""How long the mail server may take to answer."""

OPTIONS = {"timeout": seconds(600)}
ADDRESS = r"[^\s@,;:<>\"]+@[^\s@,;:<>\"]+"
SENDER = re.compile(rf"{ADDRESS}|(?:[^@,;:<>\"]*|\"[^\"\\]*\"\s*)<{ADDRESS}>")


def mail_of(url: str) -> dict[str, Any]:
    """Return Django's settings for sending mail through *url*. Raises ValueError."""
    parsed = ServiceURL.parse(url, MAIL)
    if not parsed.scheme.startswith("smtp"):
        return _without_server(parsed)
    options = parse_options(parsed.query, OPTIONS)
    if not parsed.host:
        raise ValueError("it names no host (smtp+tls://USER:PASSWORD@HOST:587)")
    if parsed.path not in ("", "/"):
        raise ValueError("it has a path after its host (smtp+tls://USER:PASSWORD@HOST:587)")
    if bool(parsed.user) != bool(parsed.password):
        lacks = "password" if parsed.user else "user name"
        raise ValueError(f"it lacks the {lacks} (smtp+tls://USER:PASSWORD@HOST:587)")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parsed.host,
        "EMAIL_PORT": parsed.port or (465 if parsed.scheme == "smtp+ssl" else 25),
        "EMAIL_HOST_USER": parsed.user or "",
        "EMAIL_HOST_PASSWORD": parsed.password or "",
        "EMAIL_USE_TLS": parsed.scheme in ("smtps", "smtp+tls"),
        "EMAIL_USE_SSL": parsed.scheme == "smtp+ssl",
        "EMAIL_TIMEOUT": options.get("timeout", TIMEOUT_S),
    }


def mailers_of(legacy: dict[str, Any]) -> dict[str, Any]:
    """Return the setting ``MAILERS``, which replaces the settings in *legacy* since Django 6.1."""
    names = {"EMAIL_HOST_USER": "username", "EMAIL_HOST_PASSWORD": "password"}
    options = {
        names.get(name, name.removeprefix("EMAIL_").lower()): value
        for name, value in legacy.items()
        if name != "EMAIL_BACKEND"
    }
    return {"default": {"BACKEND": legacy["EMAIL_BACKEND"], "OPTIONS": options}}


def _without_server(parsed: ServiceURL) -> dict[str, Any]:
    """Return the settings for mail that is printed, or written into a folder."""
    parse_options(parsed.query, {})
    form = "filemail:////the/folder" if parsed.scheme == "filemail" else "consolemail://"
    folder = parsed.path.removeprefix("/")
    if parsed.host or parsed.user or bool(folder) != (parsed.scheme == "filemail"):
        raise ValueError(f"it is not of the form {form}")
    if parsed.scheme == "consolemail":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if not Path(folder).is_dir():
        raise ValueError(f"its folder does not exist ({form})")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": folder,
    }


def sender_of(text: str) -> str:
    """Return *text*, the sender of mail. Raises ValueError if it is not one mail address."""
    if SENDER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a mail address (Chat <chat@example.org> is one)")
    return text
