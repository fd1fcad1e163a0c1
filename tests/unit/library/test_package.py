"""The package itself: importing it is cheap, and its public names are those that it promises."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys

import pytest

import broadcast_server
from broadcast_server.cli.options import parse_options


def loaded_by(code: str) -> set[str]:
    """Return the modules that *code* loads in a Python without site packages of its own."""
    command = f"import sys; before = {{*sys.modules}}\n{code}\nprint(*{{*sys.modules}} - before)"
    run = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True, timeout=60
    )
    return {*run.stdout.split()}


def test_importing_the_package_loads_nothing_else() -> None:
    """It costs as much as an empty module, whatever the library grows to."""
    assert loaded_by("import broadcast_server") <= {"broadcast_server", "__future__"}


def test_each_face_loads_what_it_needs_only() -> None:
    """A client loads nothing of the server or the terminal."""
    loaded = loaded_by("from broadcast_server import connect")
    areas = {each.split(".")[1] for each in loaded if each.startswith("broadcast_server.")}
    assert areas == {"client", "console", "library", "protocol"}
    assert loaded.isdisjoint({"prompt_toolkit", "h11", "sqlite3", "argparse"})


@pytest.mark.parametrize("name", broadcast_server.__all__)
def test_a_public_name_exists(name: str) -> None:
    """Each name of the promise can be imported, and says what it is."""
    assert getattr(broadcast_server, name) is not None
    assert name in dir(broadcast_server)


def test_the_promise_is_sorted_and_complete() -> None:
    """`__all__` has each public name of the package, and an unknown name is an AttributeError."""
    assert broadcast_server.__all__ == sorted(broadcast_server.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        broadcast_server.nothing  # noqa: B018
    namespace: dict[str, object] = {}
    exec("from broadcast_server import *", namespace)
    assert {*namespace} - {"__builtins__"} == {*broadcast_server.__all__}


def test_the_synchronous_face_has_the_same_parameters() -> None:
    """What can be passed to `connect` and `serve` can be passed without asyncio, too."""
    for asynchronous, synchronous in (
        (broadcast_server.connect, broadcast_server.connect_sync),
        (broadcast_server.serve, broadcast_server.serve_sync),
    ):
        expected = inspect.signature(asynchronous).parameters
        assert inspect.signature(synchronous).parameters == expected


@pytest.mark.parametrize(
    "error",
    [
        broadcast_server.ConnectError("it is full", 4009),
        broadcast_server.DisconnectedError("you were kicked", 4010),
        broadcast_server.RejectedError("message is empty", "empty"),
        broadcast_server.MessageTooLongError("message is too long", "too_long"),
        broadcast_server.RoomClosedError("the room is closed"),
        broadcast_server.ServeError("the port is taken"),
        broadcast_server.BroadcastError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_passes_between_processes(error: Exception) -> None:
    """An executor pickles what its worker has raised. An error that it cannot read ends it."""
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(same), same.args, vars(same)) == (type(error), error.args, vars(error))


def test_the_parameters_of_a_server_are_the_options_of_the_command() -> None:
    """Each option of `start` that is not about the command line, with the same default."""
    options = vars(parse_options(["start"]))
    parameters = inspect.signature(broadcast_server.serve).parameters
    line = {"command", "log_format", "open", "public_url", "typed", "version"}
    secrets = {"token": "token_file", "operator_key": "operator_file"}
    assert {*parameters} == ({*options} - line - {*secrets.values()}) | {*secrets}
    for name, parameter in parameters.items():
        if name not in secrets and not name.startswith(("allow_", "trusted")):
            assert parameter.default == options[name], name
