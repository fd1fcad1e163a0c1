"""Static files: WhiteNoise's middleware, with the whole file in each response, and their URLs."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse
from django.urls import get_script_prefix
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Serves the files of the admin.

    WhiteNoise streams a file with blocking calls. Under ASGI, Django prints a warning about that
    and reads the whole file first. The longest of these files has some 300 KB.

    WhiteNoise also makes the thread of each request wait for the event loop. When a server stops,
    its loop ends first, and then the process would wait for these threads for ever.
    """

    async_capable = True

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Respond to a request, or pass it on."""
        return self._respond(request) if iscoroutinefunction(self) else super().__call__(request)

    async def _respond(self, request: HttpRequest) -> Any:
        file = self.files.get(request.path_info)
        if file is None:
            return await self.get_response(request)
        return await sync_to_async(self.serve)(file, request)

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
