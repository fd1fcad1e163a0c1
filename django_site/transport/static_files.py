"""Static files: WhiteNoise's middleware, with the whole file in each response, and their URLs."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse
from django.urls import get_script_prefix
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Serves the files of the admin.

    WhiteNoise streams a file with blocking calls. Under ASGI, Django prints a warning about that
    and reads the whole file first. The longest of these files has some 300 KB.
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        """Return the response with a file, or with the part of it that the request asks for."""
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with closing(found.file):
                body = found.file.read()
        response = HttpResponse(body, status=int(found.status))
        del response["Content-Type"]  # Django's default
        for name, value in found.headers:
            response[name] = value
        return response


class PrefixedStorage(StaticFilesStorage):
    """Knows the URLs of these files below the prefix of the request that is being answered.

    Django's own keeps the prefix of the first request, or that of the start.
    """

    @property
    def base_url(self) -> str:
        """The URL of all static files."""
        return f"{get_script_prefix()}static/"
