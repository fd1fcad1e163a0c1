"""Which module may import which: areas first, then the modules inside each. All in one direction.

The tables are the rule. A module is added here when it is added to the package, and a line that
grows needs a reason.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from programs import ROOT

AREAS = {
    "broadcast_server": {
        "protocol": "",
        "console": "protocol",
        "admission": "console protocol",
        "client": "console protocol",
        "pipe": "client console protocol",
        "rooms": "console protocol",
        "http": "protocol rooms",
        "server": "admission console http protocol rooms",
        "library": "admission client console http protocol rooms server",
        "single_file": "",
        "terminal": "client console pipe protocol",
        "cli": "admission client console http pipe protocol rooms server terminal",
    },
    "django_site": {
        "configuration": "",
        "accounts": "configuration",
        "store": "accounts configuration",
        "management": "store",
        "moderation": "accounts store",
        "admin": "accounts moderation store",
        "replication": "accounts store",
        "transport": "accounts configuration replication store",
    },
}
"""The areas of each package, lowest first, and which other areas each imports."""

TOP = {
    "broadcast_server": {
        "__main__": "cli",
    },
    "django_site": {
        "client_address": "configuration",
        "models": "accounts",
        "settings": "client_address configuration",
        "urls": "accounts transport",
        "apps": "configuration moderation store transport",
        "asgi": "configuration replication store transport",
    },
}
"""The modules beside the areas, and what each imports. Areas import only the first of them."""

MODULES = {
    "broadcast_server": {
        "protocol": {
            "bounds": "",
            "control_sequences": "",
            "look_alikes": "",
            "timestamp": "",
            "appearance": "look_alikes",
            "names": "appearance look_alikes",
            "sanitize": "control_sequences",
            "operators": "sanitize",
            "messages": "bounds operators",
            "codec": "bounds messages names operators sanitize",
            "rejection": "messages",
            "session_key": "",
            "join": "bounds messages names session_key",
            "publish": "join",
            "userinfo": "",
        },
        "console": {
            "argument": "",
            "child_environment": "",
            "os_error": "",
            "private_file": "",
            "signals": "",
            "streams": "os_error",
            "threads": "",
            "time_limit": "",
            "tls_support": "",
            "work_queue": "",
            "stdio": "threads work_queue",
        },
        "admission": {
            "auth_throttle": "",
            "connection_counter": "",
            "handshake_slots": "",
            "int_range": "",
            "message_cost": "",
            "pending": "",
            "place": "",
            "rate_limit": "",
            "allowances": "message_cost rate_limit",
            "token": "",
            "trusted_proxies": "",
            "admission": (
                "allowances auth_throttle connection_counter place rate_limit token trusted_proxies"
            ),
        },
        "client": {
            "address": "",
            "close_reason": "",
            "http_status": "",
            "open_requests": "",
            "oversize": "",
            "message_limit": "oversize",
            "outbox": "message_limit",
            "private_outbox": "",
            "proxy": "address http_status",
            "connect_errors": "proxy",
            "dial": "connect_errors proxy",
            "publish_result": "http_status",
            "report_texts": "",
            "response_head": "",
            "handshake_errors": "connect_errors http_status response_head",
            "session": "open_requests outbox private_outbox",
            "opener": (
                "address connect_errors dial handshake_errors http_status proxy response_head"
                " session"
            ),
            "client": "close_reason opener proxy session",
            "target": "address proxy",
            "http_connection": "address connect_errors dial response_head target",
            "publisher": "connect_errors dial http_connection http_status publish_result target",
            "fitting_publisher": "message_limit publish_result publisher",
            "transcript": "http_connection http_status target",
        },
        "pipe": {
            "cursor_file": "",
            "message_filter": "",
            "printer": "",
            "process_text": "",
            "exec_sink": "process_text",
            "progress": "",
            "shown_line": "",
            "line_splitter": "shown_line",
            "pipe": "cursor_file line_splitter message_filter progress",
        },
        "rooms": {
            "batch_timer": "",
            "kept_names": "",
            "log_watch": "",
            "message_log": "",
            "log_errors": "message_log",
            "log_marker": "message_log",
            "log_rows": "message_log",
            "log_kept_names": "kept_names log_rows",
            "log_session_key": "log_rows",
            "metrics": "",
            "participant": "",
            "actions": "participant",
            "delegated_actions": "actions",
            "faults": "participant",
            "name_table": "kept_names participant",
            "payloads": "",
            "batch": "participant payloads",
            "fanout": "batch participant payloads",
            "quota": "",
            "receiver": "",
            "restrictions": "",
            "resume": "message_log",
            "room_mode": "",
            "log_room_modes": "log_rows room_mode",
            "log_mutes": "log_rows restrictions",
            "log_decisions": "log_mutes log_room_modes restrictions room_mode",
            "log_upgrade": "log_room_modes",
            "log_tables": "log_room_modes log_upgrade message_log",
            "log_probe": "log_tables message_log",
            "log_state": "log_rows log_tables",
            "log_backup": "log_errors log_probe log_state log_tables message_log",
            "log_moves": "log_state log_watch",
            "log_start": (
                "kept_names log_kept_names log_marker log_mutes log_probe log_room_modes"
                " log_session_key log_state log_tables log_upgrade log_watch message_log"
                " restrictions room_mode"
            ),
            "slow_mode": "",
            "room_control": "participant quota restrictions room_mode slow_mode",
            "hiding": "actions message_log participant",
            "operator_acts": "actions name_table participant restrictions room_control room_mode",
            "private": "actions name_table participant room_control",
            "renames": "actions name_table participant room_control",
            "roster": "",
            "welcome": "message_log participant room_mode",
            "room": (
                "actions faults kept_names message_log name_table operator_acts participant"
                " private quota renames resume room_control roster welcome"
            ),
            "live_room": (
                "actions batch_timer delegated_actions fanout metrics participant payloads"
                " receiver room"
            ),
            "sqlite_log": (
                "kept_names log_backup log_decisions log_errors log_kept_names log_marker log_moves"
                " log_rows log_start log_state log_watch message_log restrictions room_mode"
            ),
            "turns": "",
            "replays": "participant turns",
            "local_room": (
                "actions batch_timer fanout hiding kept_names live_room message_log metrics"
                " participant"
                " receiver replays room room_control sqlite_log"
            ),
            "observed_room": "actions local_room operator_acts participant",
        },
        "http": {
            "chat_page": "",
            "invalid_request": "",
            "program": "",
            "prometheus": "",
            "qr": "",
            "responses": "",
            "allowed_hosts": "responses",
            "cors": "responses",
            "site": "allowed_hosts chat_page program prometheus qr responses",
            "own_page": "cors program responses site",
            "post": "responses site",
            "stream": "responses",
            "upload_budget": "",
        },
        "server": {
            "api": "",
            "file_limit": "",
            "frame_splitter": "",
            "listen_socket": "",
            "activation": "listen_socket",
            "handshakes": "listen_socket",
            "log_format": "",
            "event_log": "log_format",
            "pem_files": "",
            "read_budget": "frame_splitter",
            "server_frames": "",
            "settings": "api",
            "room_registry": "settings",
            "tls": "pem_files",
            "tls_transport": "handshakes",
            "transport": "",
            "socket_transport": "transport",
            "acceptor": "listen_socket socket_transport transport",
            "listener": "acceptor activation handshakes listen_socket tls tls_transport transport",
            "own_names": "listener settings",
            "stream_connection": "api transport",
            "http_connection": "api stream_connection transport",
            "upgrade_request": "",
            "handshake": "upgrade_request",
            "websocket": (
                "api frame_splitter handshake read_budget server_frames transport upgrade_request"
            ),
            "first_request": "api http_connection websocket",
            "server": (
                "api event_log first_request listen_socket listener log_format own_names"
                " room_registry settings tls"
            ),
            "opening": "file_limit http_connection listen_socket server settings tls websocket",
            "serve": "event_log file_limit opening settings tls",
        },
        "library": {
            "argument": "",
            "errors": "",
            "events": "",
            "event_queue": "events",
            "loop_home": "",
            "event_stream": "event_queue events loop_home",
            "embedded_server": "argument errors event_stream events loop_home",
            "async_serve": "argument embedded_server errors",
            "loop_thread": "",
            "member_names": "",
            "inbox": "event_queue events member_names",
            "room_core": "argument errors event_queue events inbox loop_home",
            "client_room": "argument events room_core",
            "async_connect": "argument client_room errors room_core",
            "sync_client_room": "argument errors event_queue events loop_thread room_core",
            "sync_connect": "async_connect errors loop_thread sync_client_room",
            "sync_serve": "async_serve embedded_server errors events loop_thread",
        },
        "single_file": {
            "archive": "",
            "code_cache": "",
            "importer": "archive code_cache",
        },
        "terminal": {
            "commands": "",
            "crowd": "",
            "hidden_events": "",
            "known_names": "",
            "completer": "commands known_names",
            "orphaned": "",
            "key_mode": "orphaned",
            "render": "",
            "room_view": "commands known_names",
            "screen": "render",
            "typed_texts": "",
            "saver": "",
            "status_line": "",
            "chat": (
                "commands crowd hidden_events known_names render room_view saver screen"
                " status_line typed_texts"
            ),
            "suspend": "orphaned",
            "prompt": "chat completer render status_line suspend",
            "typed_line": "",
            "plain": "chat key_mode render typed_line",
        },
        "cli": {
            "backup": "",
            "browser": "",
            "history": "",
            "local_addresses": "",
            "operator_option": "",
            "invitation": "",
            "run": "",
            "send": "",
            "startup": "browser invitation local_addresses",
            "token_option": "",
            "usage": "",
            "connect": "usage",
            "env_parser": "usage",
            "client_options": "env_parser",
            "options": "client_options env_parser usage",
            "parser_schema": "usage",
            "completion": "parser_schema usage",
            "man_page": "parser_schema usage",
            "start": "operator_option startup token_option usage",
            "target_option": "env_parser operator_option token_option",
            "main": (
                "backup completion connect env_parser history man_page options parser_schema run"
                " send start target_option usage"
            ),
        },
    },
    "django_site": {
        "configuration": {
            "checks": "",
            "data_folder": "",
            "error_report": "",
            "file_exhaustion": "",
            "own_hosts": "",
            "public_url": "",
            "request_log": "file_exhaustion",
            "secret_addresses": "",
            "secret_key": "",
            "server_log": "",
            "service_url": "",
            "startup_failure": "",
            "environment": "startup_failure",
            "query_option": "environment",
            "database_url": "query_option service_url",
            "mail_url": "query_option service_url",
            "redis_url": "query_option service_url",
        },
        "accounts": {
            "account_page": "",
            "apps": "",
            "mail_queue": "",
            "name_key": "",
            "models": "name_key",
            "login_throttle": "models name_key",
            "backend": "login_throttle models",
            "public_site": "",
            "forms": "models public_site",
            "session_store": "",
            "views": "account_page backend forms login_throttle mail_queue models public_site",
            "urls": "views",
        },
        "store": {
            "damage": "",
            "epochs": "",
            "health_check": "",
            "kept_names": "",
            "message_insert": "",
            "append_statement": "message_insert",
            "migration_lock": "",
            "operators": "",
            "origins": "",
            "bans": "origins",
            "outage": "damage",
            "private_database": "",
            "message_log": "append_statement damage message_insert private_database",
            "export": "message_log",
            "notifier": "message_log outage",
            "query_log": "",
            "records": "message_log",
            "rejections": "damage",
            "private_route": "rejections",
            "senders": "message_log origins",
            "reports": "message_log senders",
            "hiding": "senders",
            "restrictions": "kept_names",
            "retention": "notifier records",
            "roster_batch": "bans kept_names origins",
            "schema": "epochs private_database",
            "silence": "kept_names operators restrictions",
            "presence": (
                "kept_names notifier operators origins rejections restrictions roster_batch silence"
            ),
            "banning": "bans presence records rejections senders",
            "liveness": "kept_names presence",
            "operating": (
                "banning hiding kept_names message_log operators presence records rejections"
                " reports restrictions senders"
            ),
            "publish": "message_log presence rejections silence",
            "site_key": "",
            "sync": "damage epochs message_log operating presence publish",
            "wait_limits": "",
            "broadcaster": "message_log notifier publish rejections wait_limits",
        },
        "management": {
            "commands": "",
            "commands.broadcast": "",
            "commands.delete_messages": "",
            "commands.export_messages": "",
            "commands.migrate": "",
            "commands.new_epochs": "",
        },
        "moderation": {
            "actions": "",
            "group": "",
        },
        "admin": {
            "banned_client": "",
            "room_export": "",
            "time_limit": "",
            "damaged_rows": "",
            "bounded_list": "damaged_rows time_limit",
            "accounts": "bounded_list",
            "row_actions": "bounded_list damaged_rows",
            "archive": "banned_client bounded_list row_actions",
            "bans": "archive banned_client row_actions",
            "members": "banned_client row_actions",
            "records": "archive damaged_rows row_actions",
            "reports": "archive row_actions",
            "rooms": "room_export row_actions",
        },
        "replication": {
            "admission": "",
            "admission_batch": "",
            "catch_up": "",
            "drafts": "",
            "logged_room": "catch_up",
            "notifications": "",
            "open_logins": "",
            "outbox": "",
            "pending_posts": "",
            "private_messages": "notifications",
            "replicated_control": "",
            "replicated_roster": "",
            "sync_pace": "",
            "synchronizer": "outbox sync_pace",
            "replica": (
                "admission_batch catch_up drafts logged_room notifications outbox pending_posts"
                " private_messages replicated_control replicated_roster synchronizer"
            ),
            "replica_registry": "admission catch_up open_logins private_messages replica",
        },
        "transport": {
            "asgi_response": "",
            "authentication": "",
            "bounded_stop": "",
            "daphne_access_log": "",
            "daphne_headers": "",
            "fd_exhaustion": "asgi_response",
            "flow_control": "",
            "form_request": "",
            "page": "",
            "page_threads": "asgi_response",
            "prefix": "",
            "redirect_loop": "",
            "request_body": "asgi_response prefix",
            "daphne_limits": "prefix request_body",
            "static_files": "",
            "stream_response": "flow_control",
            "http": "authentication page request_body stream_response",
            "request_guard": "asgi_response http prefix request_body",
            "uvicorn_shutdown": "",
            "websocket": "authentication flow_control",
        },
    },
}
"""The modules of each area, lowest first, and which modules of the same area each imports."""

LOW = {"models", "client_address"}
"""The modules beside the areas that areas may import: Django wants the first one there, and the
settings read the second one before Django is set up."""

PURE = {
    "broadcast_server.protocol", "broadcast_server.http",
    "broadcast_server.rooms.fanout", "broadcast_server.rooms.log_rows",
    "broadcast_server.rooms.message_log",
    "broadcast_server.rooms.metrics", "broadcast_server.rooms.room",
    "broadcast_server.admission.admission", "broadcast_server.admission.allowances",
    "broadcast_server.admission.auth_throttle",
    "broadcast_server.admission.connection_counter", "broadcast_server.admission.handshake_slots",
    "broadcast_server.admission.int_range",
    "broadcast_server.admission.pending", "broadcast_server.admission.rate_limit",
    "broadcast_server.admission.trusted_proxies",
    "broadcast_server.server.frame_splitter", "broadcast_server.server.read_budget",
    "broadcast_server.server.upgrade_request",
    "broadcast_server.client.address", "broadcast_server.client.http_status",
    "broadcast_server.client.response_head",
    "broadcast_server.client.proxy", "broadcast_server.client.publish_result",
    "broadcast_server.client.session",
    "broadcast_server.library.errors", "broadcast_server.library.event_queue",
    "broadcast_server.library.events", "broadcast_server.library.inbox",
    "broadcast_server.library.member_names",
    "broadcast_server.pipe.cursor_file", "broadcast_server.pipe.line_splitter",
    "broadcast_server.pipe.process_text", "broadcast_server.pipe.progress",
    "broadcast_server.terminal.commands", "broadcast_server.terminal.render",
    "broadcast_server.terminal.status_line",
    "broadcast_server.cli.client_options", "broadcast_server.cli.completion",
    "broadcast_server.cli.env_parser", "broadcast_server.cli.invitation",
    "broadcast_server.cli.man_page", "broadcast_server.cli.options",
    "broadcast_server.cli.parser_schema",
}  # fmt: skip
"""Modules, and areas as a whole, that decide without waiting or touching a socket."""

IMPURE = {"asyncio", "socket", "threading", "ssl", "websockets", "h11", "prompt_toolkit", "django"}

LIBRARIES = {
    "websockets": {
        "server.handshake",
        "server.server_frames",
        "server.websocket",
        "client.client",
        "client.close_reason",
        "client.handshake_errors",
        "client.opener",
    },
    "h11": {"server.http_connection"},
    "prompt_toolkit": {"terminal.completer", "terminal.prompt", "terminal.suspend"},
}
"""Which modules of `broadcast_server` alone import a library that is not Python's own."""


@cache
def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by their dotted names below it, "" for the package itself."""
    found: dict[str, Path] = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        if "migrations" not in parts:
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def imports(package: str, module: str, path: Path) -> tuple[set[str], set[str]]:
    """Return what a module imports anywhere in it: of its package, and the top-level rest."""
    known = modules(package)
    here = [package, *filter(None, module.split("."))]
    if path.name != "__init__.py":
        here.pop()
    ours: set[str] = set()
    rest: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(level=level, module=name, names=names):
                base = here[: len(here) - level + 1] if level else []
                source = ".".join([*base, *filter(None, [name])])
                if source.partition(".")[0] == package:
                    inside = source.removeprefix(package).lstrip(".")
                    for each in names:
                        whole = f"{inside}.{each.name}".lstrip(".")
                        ours.add(whole if whole in known else inside)
                else:
                    rest.add(source.partition(".")[0])
            case ast.Import(names=names):
                rest.update(each.name.partition(".")[0] for each in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str() as name)]
            ):
                assert name.startswith(f"{package}.")
                ours.add(name.removeprefix(f"{package}."))
    return ours - {"", module}, rest


def area(module: str) -> str:
    """Return the area that a module is in, or its own name if it is beside the areas."""
    return module.partition(".")[0]


def area_imports(package: str, name: str) -> set[str]:
    """Return which other areas, and modules beside them, an area or such a module imports."""
    found: set[str] = set()
    for module, path in modules(package).items():
        if module and area(module) == name:
            found |= {area(each) for each in imports(package, module, path)[0]}
    return found - {name}


@pytest.mark.parametrize("package", AREAS)
def test_every_module_has_its_place(package: str) -> None:
    """A new area or module has to be given its place in the tables."""
    listed = {*AREAS[package], *TOP[package]}
    for name, inside in MODULES[package].items():
        listed |= {f"{name}.{each}" for each in inside}
    assert {*modules(package)} - {""} == listed


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in AREAS for name in AREAS[package]]
)
def test_an_area_imports_what_the_table_says(package: str, name: str) -> None:
    """An area imports the areas that the table lists, no more and no fewer."""
    assert area_imports(package, name) - LOW == {*AREAS[package][name].split()}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in TOP for name in TOP[package]]
)
def test_a_module_beside_the_areas_imports_what_the_table_says(package: str, name: str) -> None:
    """So does a module beside the areas."""
    assert area_imports(package, name) == {*TOP[package][name].split()}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in MODULES for name in MODULES[package]]
)
def test_modules_of_an_area_import_what_the_table_says(package: str, name: str) -> None:
    """Inside an area, a module imports the modules that the table lists, no more and no fewer."""
    for module, path in modules(package).items():
        if area(module) == name and "." in module:
            inside = {
                each.partition(".")[2]
                for each in imports(package, module, path)[0]
                if area(each) == name
            }
            assert inside == {*MODULES[package][name][module.partition(".")[2]].split()}, module


@pytest.mark.parametrize("package", AREAS)
def test_imports_run_one_way(package: str) -> None:
    """Nothing imports what is below it in its table, so there are no circles."""
    tables = [AREAS[package], *MODULES[package].values()]
    for table in tables:
        above: set[str] = set()
        for name, imported in table.items():
            assert above.issuperset(imported.split()), name
            above.add(name)


@pytest.mark.parametrize("pure", sorted(PURE))
def test_pure_modules_know_no_loop_and_no_socket(pure: str) -> None:
    """What decides neither waits nor touches the world, so that it can be tested alone."""
    package, _, wanted = pure.partition(".")
    found = {
        module: imports(package, module, path)[1]
        for module, path in modules(package).items()
        if module == wanted or module.startswith(f"{wanted}.")
    }
    assert found
    for module, rest in found.items():
        assert rest.isdisjoint(IMPURE), module


def test_each_library_has_its_modules() -> None:
    """`broadcast_server` imports a library only where the table says, and never `django_site`."""
    for module, path in modules("broadcast_server").items():
        foreign = imports("broadcast_server", module, path)[1] - sys.stdlib_module_names
        assert foreign == {name for name, users in LIBRARIES.items() if module in users}, module


# -- what a command loads ----------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Run *code* in a new interpreter, and return the modules that it has loaded then."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    return set(run.stdout.split())


def of_areas(loaded: set[str], *areas: str) -> set[str]:
    """Return which modules of *areas* of `broadcast_server` are among the *loaded* ones."""
    prefixes = tuple(f"broadcast_server.{each}" for each in areas)
    return {each for each in loaded if f"{each}.".startswith(tuple(f"{p}." for p in prefixes))}


def test_a_server_loads_nothing_of_the_client() -> None:
    """Starting to serve costs no import that only `connect` needs, and no library yet."""
    loaded = loaded_by("import broadcast_server.server.server")
    assert "broadcast_server.server.first_request" in loaded
    assert of_areas(loaded, "client", "pipe", "terminal") == set()
    assert loaded.isdisjoint({"prompt_toolkit", "websockets", "h11"})


def test_a_server_loads_no_options_of_clients() -> None:
    """Starting to serve costs nothing for what can be typed behind other commands."""
    code = "from broadcast_server.cli.options import parse_options; parse_options(['{}'])"
    for command, read in (("start", False), ("connect", True)):
        loaded = loaded_by(code.format(command))
        assert ("broadcast_server.cli.client_options" in loaded) is read


def test_a_server_loads_what_it_was_asked_for_only() -> None:
    """Starting to serve costs no import that only a token, TLS or a Unix socket needs."""
    loaded = loaded_by(
        "import broadcast_server.server.server, broadcast_server.server.listener\n"
        "import broadcast_server.admission.admission"
    )
    assert "broadcast_server.server.listen_socket" in loaded
    optional = "admission.auth_throttle", "server.activation", "server.tls", "rooms.sqlite_log"
    assert of_areas(loaded, *optional, "server.tls_transport", "server.handshakes") == set()


def test_publishing_one_message_loads_no_loop() -> None:
    """`send` and `run` cost no import that only a lasting connection needs."""
    target = "import broadcast_server.cli.main, broadcast_server.cli.target_option\n"
    loaded = loaded_by(target + "import broadcast_server.cli.run, broadcast_server.cli.send")
    assert "broadcast_server.client.publisher" in loaded
    lasting = "client.client", "client.session", "server.server", "pipe.exec_sink"
    assert of_areas(loaded, *lasting) == set()
    assert loaded.isdisjoint({"asyncio", "websockets", "h11", "prompt_toolkit"})


def test_a_pipe_loads_nothing_of_the_server() -> None:
    """Joining from a pipe costs no import that only `start` or a terminal needs."""
    loaded = loaded_by("import broadcast_server.client.client, broadcast_server.pipe.pipe")
    assert "broadcast_server.client.session" in loaded
    assert of_areas(loaded, "admission", "http", "rooms", "server", "terminal") == set()
    assert loaded.isdisjoint({"prompt_toolkit", "h11"})
