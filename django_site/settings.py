"""The settings, from the environment: everything has a default for one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from broadcast_server.gate import Limits
from broadcast_server.secret import token_of

from .address import trusted_of

env = environ.Env()
LIMITS = Limits()

DEBUG = env.bool("DEBUG", default=True)
DATA = Path(env.str("BROADCAST_DATA", default=".")).resolve()

# Without DEBUG there is no default: a secret that everyone knows is none.
INSECURE = {"default": "for development only"} if DEBUG else {}
SECRET_KEY = env.str("SECRET_KEY", **INSECURE)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["*"] if DEBUG else [])

BROADCAST_MAX_MESSAGE_BYTES = env.int("BROADCAST_MAX_MESSAGE_BYTES", default=4096)
BROADCAST_ALLOW_ORIGIN = frozenset(
    each.lower() for each in env.list("BROADCAST_ALLOW_ORIGIN", default=[])
)

# Messages a second that one client may say, ten times as many at once; 0 is no limit.
BROADCAST_RATE = env.int("BROADCAST_RATE", default=100)

# What one process allows; the reasons are in docs/limits.md.
BROADCAST_MAX_CLIENTS = env.int("BROADCAST_MAX_CLIENTS", default=LIMITS.clients)
BROADCAST_MAX_CLIENTS_PER_ADDRESS = env.int(
    "BROADCAST_MAX_CLIENTS_PER_ADDRESS", default=LIMITS.clients_per_address
)
BROADCAST_MAX_ROOMS = env.int("BROADCAST_MAX_ROOMS", default=LIMITS.rooms)
BROADCAST_MAX_JOINS = env.int("BROADCAST_MAX_JOINS", default=LIMITS.joins)

# Seconds without a sign of life after which the members of a process are taken out.
BROADCAST_DEAD = env.float("BROADCAST_DEAD", default=40.0)

BROADCAST_LOGIN = env.str("BROADCAST_LOGIN", default="optional")
if BROADCAST_LOGIN not in ("optional", "required"):
    raise ImproperlyConfigured(
        f"BROADCAST_LOGIN is {BROADCAST_LOGIN!r}, allowed are optional and required"
    )

# What guests have to know; accounts have what is their own.
try:
    BROADCAST_TOKEN = token_of(env.str("BROADCAST_TOKEN", ""), env.str("BROADCAST_TOKEN_FILE", ""))
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from None
if BROADCAST_TOKEN is not None and BROADCAST_LOGIN == "required":
    raise ImproperlyConfigured(
        "BROADCAST_TOKEN is for guests, and BROADCAST_LOGIN=required lets none in: unset either"
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
    "whitenoise.middleware.WhiteNoiseMiddleware",
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
# The admin's own files, served from where they are installed: nothing to collect.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

AUTH_USER_MODEL = "accounts.Account"
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
CSRF_FAILURE_VIEW = "django_site.accounts.views.stale"

MAIL = "EMAIL_URL" in env.ENVIRON
"""Whether we can send mail, without which nobody gets a new password by it."""

if MAIL:
    vars().update(env.email_url("EMAIL_URL"))
    EMAIL_TIMEOUT = 10
    DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="webmaster@localhost")

# Without DEBUG the site is one of the internet, and so behind TLS.
TLS = env.bool("BROADCAST_TLS", default=not DEBUG)
SECURE_SSL_REDIRECT = TLS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$"]  # asked for by the machine beside
SECURE_HSTS_SECONDS = 3600 if TLS else 0
SESSION_COOKIE_SECURE = TLS
CSRF_COOKIE_SECURE = TLS
X_FRAME_OPTIONS = "DENY"
BROADCAST_TRUSTED_PROXY = trusted_of(env.str("BROADCAST_TRUSTED_PROXY", default="no"))
if BROADCAST_TRUSTED_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Of subdomains, and of a browser's list for all times, the owner of the domain decides.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

ROOT_URLCONF = "django_site.urls"
ASGI_APPLICATION = "django_site.asgi.application"
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

EMBEDDED = "DATABASE_URL" not in env.ENVIRON
"""Whether the database is our own file, which we make and migrate ourselves."""

if EMBEDDED:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DATA / "broadcast.sqlite3"),
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                # A transaction that begins by reading could not go on to write when
                # another process did meanwhile.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
else:
    # A connection is kept, since to make one takes longer than a turn's transaction, and
    # looked at before each use, since the database may have been restarted meanwhile.
    KEPT: dict[str, Any] = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    DATABASES = {"default": {**KEPT, **env.db("DATABASE_URL")}}

if "REDIS_URL" in env.ENVIRON:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [env.str("REDIS_URL")]},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

LOG_FORMAT = env.str("BROADCAST_LOG_FORMAT", default="text")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "broadcast_server.logline.formatter", "format": LOG_FORMAT}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "django_site": {"handlers": ["console"], "level": "INFO", "propagate": False},
        # It logs a traceback for each attempt to reach a Redis that is away. The node
        # says in a line that the bell does not ring.
        "channels_redis": {"level": "CRITICAL"},
    },
}
