"""The error report: what Django shows of an error with ``DEBUG=yes``."""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Any

from django.views.debug import SafeExceptionReporterFilter


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Leaves the settings out, and the variables, which have passwords in them as well."""

    def get_safe_settings(self) -> dict[str, Any]:
        """Return the settings to show."""
        return {}

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        """Return the variables of a function to show."""
        return {}.items()
