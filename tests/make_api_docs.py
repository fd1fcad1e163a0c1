"""Writes the reference in docs/api.md from the docstrings of the library.

The page is written by hand, except between `<!-- reference: NAMES -->` and `<!-- end -->`. Run this
file after a change of a docstring; a test checks that the page is up to date.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from broadcast_server.library.embedded_server import DEFAULT_NAME
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
LIBRARY = ROOT / "broadcast_server" / "library"
WIDTH = 100

LOOPS = {"__aiter__": "async for message in room", "__iter__": "for message in room"}
"""How a user writes a call of these methods."""

PART = re.compile(r"(<!-- reference: ([\w ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

CONSTANTS = {
    "DEFAULT_MAX_MESSAGES": f"{DEFAULT_MAX_MESSAGES:_}",
    "DEFAULT_MAX_BYTES": f"{DEFAULT_MAX_BYTES:_}",
    "MAX_MESSAGE_BYTES": str(MAX_MESSAGE_BYTES),
    "DEFAULT_NAME": f'"{DEFAULT_NAME}"',
}
"""The values of defaults that have a name in the code."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def page_text(page: str) -> str:
    """Return the text of the *page* with a reference that is up to date."""
    definitions = find_definitions()

    def part(match: re.Match[str]) -> str:
        entries = [entry(definitions[name]) for name in match[2].split()]
        return "\n".join([match[1].rstrip(), "", *entries, match[3]])

    return PART.sub(part, page)


def referenced(page: str) -> set[str]:
    """Return the names that the *page* has in its reference."""
    return {name for match in PART.finditer(page) for name in match[2].split()}


def find_definitions() -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return the classes and functions of all modules of the library, by name."""
    found: dict[str, ast.ClassDef | ast.FunctionDef] = {}
    for path in sorted(LIBRARY.glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name] = node
    return found


def entry(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return the reference of a class or function."""
    lines = [f"### `{node.name}`\n"]
    if isinstance(node, ast.FunctionDef):
        return "\n".join([*lines, signature(node.name, node), *docstring(node)])
    init = next((each for each in node.body if is_function(each, "__init__")), None)
    if node.name.islower() and isinstance(init, ast.FunctionDef):
        lines.append(signature(node.name, init))
    bases = [ast.unparse(base) for base in node.bases if ast.unparse(base) != "Exception"]
    lines += docstring(node)
    if bases and bases[0].endswith("Error"):
        lines.append(f"It is a `{bases[0]}`.\n")
    lines += attributes(node, init if isinstance(init, ast.FunctionDef) else None)
    for each in node.body:
        if isinstance(each, Function) and is_public(each) and not is_property(each):
            if each.name in LOOPS:
                lines.append(f"#### `{LOOPS[each.name]}`\n")
            else:
                prefix = "await " if isinstance(each, ast.AsyncFunctionDef) else ""
                lines.append(f"#### `{node.name}.{each.name}`\n")
                lines.append(signature(prefix + each.name, each))
            lines += docstring(each)
    return "\n".join(lines)


def attributes(node: ast.ClassDef, init: ast.FunctionDef | None) -> Iterator[str]:
    """Yield the list of the fields and properties of a class."""
    items = []
    for body in (node.body, init.body if init else []):
        for statement, after in zip(body, [*body[1:], None], strict=False):
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name)):
                    if name.startswith("_"):
                        continue
                    text = ""
                    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                        text = f" {first_paragraph(str(after.value.value))}"
                    items.append((name, ast.unparse(statement.annotation), text))
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and is_public(each) and is_property(each):
            text = " ".join(paragraphs(ast.get_docstring(each) or ""))
            annotation = ast.unparse(each.returns) if each.returns else ""
            items.append((each.name, annotation, f" {text}"))
    for name, annotation, text in items:
        colon = ":" if text else ""
        yield wrap(f"`{name}: {annotation}`{colon}{text}", "- ", "  ")
    if items:
        yield ""


def signature(name: str, node: Function) -> str:
    """Return a code block with the signature of a function, without `self` and private types."""
    arguments = node.args
    parts = [ast.unparse(each) for each in arguments.args if each.arg != "self"]
    defaults = [default_text(each) for each in arguments.defaults]
    for index, default in enumerate(reversed(defaults), 1):
        parts[-index] += f" = {default}"
    if arguments.kwonlyargs:
        parts.append("*")
    for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parts.append(ast.unparse(each) + (f" = {default_text(value)}" if value else ""))
    returns = ""
    if node.returns is not None and node.name != "__init__":
        returns = f" -> {ast.unparse(node.returns)}"
    text = f"{name}({', '.join(parts)}){returns}".replace("ssl_module.", "ssl.")
    if len(text) > WIDTH:
        text = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"
        text = text.replace("ssl_module.", "ssl.")
    return f"```python\n{text}\n```\n"


def default_text(node: ast.expr) -> str:
    """Return the default of a parameter as a reader can type it."""
    text = ast.unparse(node)
    return CONSTANTS.get(text, text.replace("'", '"'))


def docstring(node: ast.ClassDef | Function) -> Iterator[str]:
    """Yield the docstring as paragraphs, and its sections as lists."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    for block in text.split("\n\n"):
        head, _, rest = block.partition("\n")
        if head in ("Args:", "Raises:"):
            items = re.findall(r"^    (\w+): ((?:.*\n?)(?:     .*\n?)*)", rest + "\n", re.MULTILINE)
            if head == "Raises:":
                yield "Raises:\n"
            for name, what in items:
                yield wrap(f"`{name}`: {' '.join(what.split())}", "- ", "  ")
            yield ""
        else:
            yield wrap(" ".join(block.split())) + "\n"


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of *text*, each in one line."""
    return [" ".join(each.split()) for each in inspect.cleandoc(text).split("\n\n")]


def first_paragraph(text: str) -> str:
    """Return the first paragraph of *text*."""
    return paragraphs(text)[0]


def wrap(text: str, first: str = "", others: str = "") -> str:
    """Return *text* in lines of at most `WIDTH` characters."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def is_function(node: ast.stmt, name: str) -> bool:
    """Return whether *node* defines the function *name*."""
    return isinstance(node, Function) and node.name == name


def is_public(node: Function) -> bool:
    """Return whether a method is for users: those without a docstring are not."""
    named = not node.name.startswith("_") or node.name in ("__aiter__", "__iter__")
    return named and ast.get_docstring(node) is not None and node.name != "open_core"


def is_property(node: Function) -> bool:
    """Return whether a method is a property."""
    return any(ast.unparse(each) == "property" for each in node.decorator_list)


if __name__ == "__main__":
    PAGE.write_text(page_text(PAGE.read_text("utf-8")), "utf-8")
