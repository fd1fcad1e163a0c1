"""Django's settings, from environment variables. Each has a default for a site on one machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import django

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.int_range import (
    CLIENTS,
    JOINS,
    MESSAGE_BYTES,
    RATE,
    ROOMS,
    IntRange,
)
from broadcast_server.admission.token import token_from
from broadcast_server.http.cors import parse_origins
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.server.log_format import FORMATS
from django_site.client_address import parse_trusted_proxy
from django_site.configuration.data_folder import check_data_folder
from django_site.configuration.database_url import database_of
from django_site.configuration.environment import Environment
from django_site.configuration.mail_url import mail_of, mailers_of, sender_of
from django_site.configuration.own_hosts import OwnHosts, parse_named_hosts
from django_site.configuration.public_url import PublicURL, parse_public_url
from django_site.configuration.redis_url import redis_of
from django_site.configuration.secret_key import own_secret_key
from django_site.configuration.startup_failure import end_start

Given = TypeVar("Given")
Value = TypeVar("Value")

env = Environment(os.environ)
LIMITS = AdmissionLimits()


def parse(name: str, parser: Callable[[Given], Value], value: Given) -> Value:
    """Return what *parser* makes of the setting *name*, or end the process with its ValueError."""
    try:
        return parser(value)
    except ValueError as error:
        end_start(f"{name}: {error}")


def absolute_path(text: str) -> Path:
    """Return the absolute path of *text*. Raises ValueError if it cannot be followed."""
    try:
        return Path(text).resolve()
    except (OSError, RuntimeError):  # a link to itself
        raise ValueError(f"{text} cannot be followed (name a folder)") from None


def time_zone(name: str) -> str:
    """Return the *name* of a time zone. Raises ValueError if there is none of that name."""
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone (Europe/Berlin is one)") from None


DATABASE_URL = env.text("DATABASE_URL")
EMBEDDED = not DATABASE_URL
"""Whether the database is the site's own SQLite file, which it creates and migrates itself."""

DATA = parse("BROADCAST_DATA", absolute_path, env.text("BROADCAST_DATA", "."))
KEY_FILE = DATA / "broadcast.key"
GIVEN_KEY = env.secret("SECRET_KEY")
if EMBEDDED or GIVEN_KEY is None:
    writes = EMBEDDED or not os.path.lexists(KEY_FILE)
    parse("BROADCAST_DATA", partial(check_data_folder, writes=writes), DATA)

OWN_KEY = GIVEN_KEY is None
"""Whether the secret key is the site's own, in a file that its first process creates."""

SECRET_KEY = GIVEN_KEY or parse("SECRET_KEY", own_secret_key, KEY_FILE)

# Errors with the source around them, for development only.
DEBUG = env.flag("DEBUG", False)
DEFAULT_EXCEPTION_REPORTER_FILTER = "django_site.configuration.error_report.ErrorReportFilter"

# A site without them has no public name. It serves this machine and the network around it.
NAMED_HOSTS = parse("ALLOWED_HOSTS", parse_named_hosts, env.text("ALLOWED_HOSTS"))

# Where users reach the site. Requests say that as well, but a mail must not lead where they say.
PUBLIC_URL = env.text("BROADCAST_PUBLIC_URL")
BROADCAST_PUBLIC_URL: PublicURL | None = (
    parse("BROADCAST_PUBLIC_URL", parse_public_url, PUBLIC_URL) if PUBLIC_URL else None
)
if BROADCAST_PUBLIC_URL is not None:
    NAMED_HOSTS = [*NAMED_HOSTS, BROADCAST_PUBLIC_URL.host]
    # Other sites under the same name may have cookies of the same names.
    SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = BROADCAST_PUBLIC_URL.prefix + "/"
ALLOWED_HOSTS: list[str] = NAMED_HOSTS or OwnHosts()

KEEP_DAYS = IntRange(0, 36_500)

BROADCAST_MAX_MESSAGE_BYTES = env.number(
    "BROADCAST_MAX_MESSAGE_BYTES", MESSAGE_BYTES, MAX_MESSAGE_BYTES
)
BROADCAST_ALLOW_ORIGIN = parse(
    "BROADCAST_ALLOW_ORIGIN", parse_origins, env.text("BROADCAST_ALLOW_ORIGIN")
)

# Messages a second of one client, with a burst of twenty times as many; 0 is no limit.
BROADCAST_RATE = env.number("BROADCAST_RATE", RATE, LIMITS.rate)

# The limits of one process; docs/limits.md gives the reasons.
BROADCAST_MAX_CLIENTS = env.number("BROADCAST_MAX_CLIENTS", CLIENTS, LIMITS.clients)
BROADCAST_MAX_CLIENTS_PER_ADDRESS = env.number(
    "BROADCAST_MAX_CLIENTS_PER_ADDRESS", CLIENTS, LIMITS.clients_per_address
)
BROADCAST_MAX_ROOMS = env.number("BROADCAST_MAX_ROOMS", ROOMS, LIMITS.rooms)
BROADCAST_MAX_JOINS = env.number("BROADCAST_MAX_JOINS", JOINS, LIMITS.joins)

# Database connections of this process: one for the rooms, and one for each thread of pages.
BROADCAST_DB_CONNECTIONS = env.number("BROADCAST_DB_CONNECTIONS", IntRange(2, 1000), 8)

# Seconds without a sign of life after which a process counts as dead.
BROADCAST_DEAD = env.seconds("BROADCAST_DEAD", 1, 3600, 40.0)

# How many days messages are kept, 0 for ever. A room can have a number of its own.
BROADCAST_KEEP_DAYS = env.number("BROADCAST_KEEP_DAYS", KEEP_DAYS, 0)

BROADCAST_LOGIN = env.choice("BROADCAST_LOGIN", ("optional", "required"))

# The token of guests. An account signs in with its password or a token of its own.
TOKEN_FILE = env.secret("BROADCAST_TOKEN_FILE") or ""
GIVEN_TOKEN = env.secret("BROADCAST_TOKEN") or ""
TOKEN_VARIABLE = "BROADCAST_TOKEN" if GIVEN_TOKEN else "BROADCAST_TOKEN_FILE"
try:
    BROADCAST_TOKEN = token_from(GIVEN_TOKEN, TOKEN_FILE)
except ValueError as error:
    reason = str(error).removeprefix(f"{TOKEN_VARIABLE}: ")
    end_start(f"{TOKEN_VARIABLE}: {reason}")
if BROADCAST_TOKEN is not None and BROADCAST_LOGIN == "required":
    end_start(
        f"{TOKEN_VARIABLE} is for guests, and BROADCAST_LOGIN=required admits none:"
        " unset one of them"
    )

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_site.accounts.apps.AccountsConfig",
    "django_site.apps.SiteConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django_site.transport.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# The admin's own files are served from where they are installed, without collectstatic.
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django_site.transport.static_files.PrefixedStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

SESSION_ENGINE = "django_site.accounts.session_store"
AUTH_USER_MODEL = "accounts.Account"
AUTHENTICATION_BACKENDS = ["django_site.accounts.backend.ThrottledBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{each}"}
    for each in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "page"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "django_site.accounts.views.csrf_failure"

EMAIL_URL = env.text("EMAIL_URL")
MAIL = bool(EMAIL_URL)
"""Whether the site can send mail. Without it there are no pages to reset a password."""

if MAIL:
    MAIL_SETTINGS = parse("EMAIL_URL", mail_of, EMAIL_URL)
    if django.VERSION >= (6, 1):
        MAILERS = mailers_of(MAIL_SETTINGS)
    else:
        vars().update(MAIL_SETTINGS)
    if "*" in NAMED_HOSTS and BROADCAST_PUBLIC_URL is None:
        end_start("ALLOWED_HOSTS is *, so a mail could link anywhere: set BROADCAST_PUBLIC_URL")
DEFAULT_FROM_EMAIL = parse(
    "DEFAULT_FROM_EMAIL", sender_of, env.text("DEFAULT_FROM_EMAIL", "webmaster@localhost")
)

# A site with a public name is assumed to be on the internet, and so behind TLS.
ENCRYPTED = (
    bool(NAMED_HOSTS) and not DEBUG
    if BROADCAST_PUBLIC_URL is None
    else BROADCAST_PUBLIC_URL.scheme == "https"
)
TLS = env.flag("BROADCAST_TLS", ENCRYPTED)
SECURE_SSL_REDIRECT = TLS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$"]  # requested by monitoring on the same machine
SECURE_HSTS_SECONDS = 3600 if TLS else 0
SESSION_COOKIE_SECURE = TLS
CSRF_COOKIE_SECURE = TLS
X_FRAME_OPTIONS = "DENY"
BROADCAST_TRUSTED_PROXY = parse(
    "BROADCAST_TRUSTED_PROXY", parse_trusted_proxy, env.text("BROADCAST_TRUSTED_PROXY", "no")
)
if BROADCAST_TRUSTED_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# HSTS for subdomains, and the browsers' preload list: the owner of the domain decides on both.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

ROOT_URLCONF = "django_site.urls"
ASGI_APPLICATION = "django_site.asgi.application"
USE_TZ = True
TIME_ZONE = parse("TIME_ZONE", time_zone, env.text("TIME_ZONE", "UTC"))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if EMBEDDED:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DATA / "broadcast.sqlite3"),
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                # Otherwise a transaction that begins by reading fails when it writes, if another
                # process has written in the meantime.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
else:
    # Connections are kept, because opening one takes longer than the transaction of a batch. They
    # are checked, as `store.health_check` says, because the database may have been restarted.
    KEPT: dict[str, Any] = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    DATABASES = {"default": {**KEPT, **parse("DATABASE_URL", database_of, DATABASE_URL)}}

REDIS_URL = env.text("REDIS_URL")
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [parse("REDIS_URL", redis_of, REDIS_URL)]},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

LOG_FORMAT = env.choice("BROADCAST_LOG_FORMAT", FORMATS)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "broadcast_server.server.log_format.formatter", "format": LOG_FORMAT}
    },
    "filters": {"rejections": {"()": "django_site.configuration.request_log.RejectionFilter"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
        "requests": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["rejections"],
        },
    },
    "loggers": {
        "django_site": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "django": {"handlers": ["requests"], "level": "WARNING", "propagate": False},
        # Its warnings are about each status of 400 and more, which the server's log has as well.
        "django.request": {"level": "ERROR"},
        # It logs a traceback for each attempt to reach a Redis that is away. `store.outage`
        # logs one line instead.
        "channels_redis": {"level": "CRITICAL"},
    },
}

MISSPELLED = env.misspelled()
"""Variables that are no settings but look like one, with its name."""

WITHOUT_EFFECT = {"BROADCAST_TOKEN_FILE": "BROADCAST_TOKEN"} if GIVEN_TOKEN and TOKEN_FILE else {}
"""Settings that have no effect, each with the other one that is set."""
