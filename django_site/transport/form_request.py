"""Requests to Django, whose forms are UTF-8 whatever they declare, or are rejected.

Django decodes a form by the charset in its Content-Type, which may be any codec of Python, also one
that decodes no text. It does not expect the errors that such a codec raises.
"""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBadRequest
from django.http.multipartparser import MultiPartParserError

CODEC_ERRORS = (LookupError, ValueError)
"""What a codec raises: it does not exist or decodes no text, or (`UnicodeError`) the text is not
its own."""


class FormRequest(ASGIRequest):
    """A request whose address and form are decoded as UTF-8, as browsers send them."""

    @property
    def encoding(self) -> str | None:
        """The charset of the form: None is Django's default, UTF-8."""
        return None

    @encoding.setter
    def encoding(self, declared: str | None) -> None:
        """Ignore a charset."""

    def parse_file_upload(self, *args: Any, **options: Any) -> Any:
        """Parse a form in parts. An error of a codec that a part names is one of the form."""
        try:
            return super().parse_file_upload(*args, **options)
        except CODEC_ERRORS as error:
            raise MultiPartParserError(f"form is not valid: {error}") from None


class FormHandler(ASGIHandler):
    """Django's handler, for such requests."""

    request_class = FormRequest

    async def listen_for_disconnect(self, receive: Any) -> None:
        """Wait until the client is gone, and raise `RequestAborted` then.

        When a server stops, Daphne cancels the task that waits for this one, and nobody looks at
        the error any more: asyncio would log it with a traceback.
        """
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await super().listen_for_disconnect(receive)

    def create_request(self, scope: Any, body_file: Any) -> Any:
        """Return a request and None, or None and the response that rejects it."""
        try:
            return super().create_request(scope, body_file)
        except CODEC_ERRORS:  # its Content-Type names such a codec for one of its parameters
            return None, HttpResponseBadRequest()
