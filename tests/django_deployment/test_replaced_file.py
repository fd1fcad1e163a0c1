"""The SQLite file of a process: no connection of it uses another one at the same path."""

from __future__ import annotations

from pathlib import Path

import django_client  # noqa: F401  # it sets Django up
import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from django_site.store.private_database import check_in_place, watch


@pytest.mark.parametrize("removed", [True, False])
def test_another_file_is_never_connected_to(tmp_path: Path, removed: bool) -> None:
    """Neither a new connection nor one that is asked again after its first error uses it."""
    watch()
    file = tmp_path / "site.sqlite3"
    settings = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file}}
    connection = ConnectionHandler(settings)["default"]
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS kept (number)")
        check_in_place(connection)
        connection.close()
    file.rename(tmp_path / "before")
    if not removed:
        file.touch()
    for _ in range(2):
        with pytest.raises(OperationalError, match=r"was (replaced|removed)"):
            connection.cursor()
        assert connection.connection is None
    connection.close()
