"""The completion scripts: what bash, zsh and fish offer on Tab after the program's name. Pure.

A script contains all commands and options, so pressing Tab does not start the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .parser_schema import ArgumentSpec, CommandSpec
from .usage import PROGRAM

PROGRAM_NAMES = PROGRAM, f"{PROGRAM}.pyz"
"""The program's names: installed, and as the executable single file."""


def bash(program: CommandSpec, commands: Sequence[CommandSpec]) -> str:
    """Return a script for bash 3.2 (the version of macOS) and newer."""
    options = [(command, option) for command in commands for option in command.options]
    rest = [flag for _, option in options if option.rest for flag in option.flags]
    values = "\n".join(_bash_values(options))
    words = "\n".join(
        f"        {command.name}) words='{' '.join(_bash_words(command))}' ;;"
        for command in commands
    )
    names = " ".join(command.name for command in commands)
    return f"""\
# bash completion for {PROGRAM}
_broadcast_server() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local command= words= place word
    COMPREPLY=()
    if [[ $current == = ]]; then
        current=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    for ((place = 1; place < COMP_CWORD; place++)); do
        word=${{COMP_WORDS[place]}}
        case $word in
        {"|".join(["--", *rest])})
            if ((place == COMP_CWORD - 1)); then
                COMPREPLY=($(compgen -c -- "$current"))
            else
                _broadcast_server_files
            fi
            return ;;
        {"|".join(command.name for command in commands)}) [[ $command ]] || command=$word ;;
        esac
    done
    case "$command $before" in
{values}
    esac
    case $command in
        '') words='{names} {" ".join(_bash_words(program))}' ;;
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
_broadcast_server_files() {{
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _broadcast_server {" ".join(PROGRAM_NAMES)}
"""


def _bash_words(command: CommandSpec) -> Iterator[str]:
    for argument in command.arguments:
        yield from argument.flags or argument.known


def _bash_values(options: Sequence[tuple[CommandSpec, ArgumentSpec]]) -> Iterator[str]:
    for command, option in options:
        if not option.metavar or option.rest:
            continue
        pattern = "|".join(f"'{command.name} {flag}'" for flag in option.flags)
        if option.known:
            offer = f"COMPREPLY=($(compgen -W '{' '.join(option.known)}' -- \"$current\")); return"
        elif option.is_file:
            offer = "_broadcast_server_files; return"
        else:  # any value, which only the user knows
            offer = "return"
        yield f"        {pattern}) {offer} ;;"


def zsh(program: CommandSpec, commands: Sequence[CommandSpec]) -> str:
    """Return a function for zsh, to put into a folder of its fpath or to source."""
    names = " ".join(f"{command.name}\\:{_zsh_word(command.summary)}" for command in commands)
    cases = "\n".join(
        f"    {command.name})\n        _arguments -s \\\n{_zsh_arguments(command.arguments)} ;;"
        for command in commands
    )
    return f"""\
#compdef {" ".join(PROGRAM_NAMES)}
_broadcast_server() {{
    local context state line
    typeset -A opt_args
    _arguments -C \\
{_zsh_arguments(program.arguments)} \\
            '1:command:(({names}))' \\
            '*::argument:->rest'
    [[ $state == rest ]] || return
    case $line[1] in
{cases}
    esac
}}
_broadcast_server_command() {{
    if [[ $words[1] == -- ]]; then
        shift words
        ((CURRENT--))
    fi
    _normal
}}
if [[ $funcstack[1] == _broadcast_server ]]; then
    _broadcast_server "$@"
else
    compdef _broadcast_server {" ".join(PROGRAM_NAMES)}
fi
"""


def _zsh_arguments(arguments: Sequence[ArgumentSpec]) -> str:
    specs = (spec for argument in arguments for spec in _zsh_specs(argument))
    return " \\\n".join(f"            {spec}" for spec in specs)


def _zsh_specs(argument: ArgumentSpec) -> Iterator[str]:
    if argument.rest:
        action = f"*::{argument.metavar}:_broadcast_server_command"
    elif argument.known:
        action = f":{argument.metavar}:({' '.join(argument.known)})"
    else:
        action = f":{argument.metavar}:{'_files' if argument.is_file else ' '}"
    if not argument.flags:
        yield f"'{action if argument.rest else ':' + action}'"
        return
    text = argument.summary.replace("\\", "\\\\").replace("]", "\\]").replace("'", "'\\''")
    text = text.replace(":", "\\:")
    value = f":{action}" if argument.rest else action
    for flag in argument.flags:
        joined = "=" if argument.metavar and not argument.rest and flag.startswith("--") else ""
        yield f"'{flag}{joined}[{text}]{value if argument.metavar else ''}'"


def _zsh_word(text: str) -> str:
    return '"' + text.replace(":", "\\:").replace("'", "'\\''").replace('"', "") + '"'


def fish(program: CommandSpec, commands: Sequence[CommandSpec]) -> str:
    """Return a script for fish."""
    lines = [f"for program in {' '.join(PROGRAM_NAMES)}", "    complete -c $program -f"]
    lines += [f"    complete -c $program {rule}" for rule in _fish_rules(program, commands)]
    return "\n".join([f"# fish completion for {PROGRAM}", *lines, "end", ""])


def _fish_rules(program: CommandSpec, commands: Sequence[CommandSpec]) -> Iterator[str]:
    first = "-n __fish_use_subcommand"
    for option in program.options:
        yield f"{first} {_fish_argument(option)}"
    for command in commands:
        yield f"{first} -a {command.name} -d {_fish_word(command.summary)}"
        here = f"__fish_seen_subcommand_from {command.name}"
        for argument in command.arguments:
            if argument.flags or argument.known or argument.rest or argument.is_file:
                yield f"-n '{here}' {_fish_argument(argument)}"
            if argument.rest:  # files as arguments of the command to run
                given = [f"; and __fish_contains_opt {flag.strip('-')}" for flag in argument.flags]
                yield f"-n '{here}{''.join(given[:1])}' -F"


def _fish_argument(argument: ArgumentSpec) -> str:
    flags = [
        f"-l {flag.strip('-')}" if flag.startswith("--") else f"-s {flag.strip('-')}"
        for flag in argument.flags
    ]
    value = []
    if argument.rest:
        value = ["-x" if flags else "", "-a '(__fish_complete_command)'"]
    elif argument.known:
        value = ["-x" if flags else "", f"-a '{' '.join(argument.known)}'"]
    elif argument.is_file:
        value = ["-r", "-F"] if flags else ["-F"]
    elif argument.metavar and flags:
        value = ["-x"]
    return " ".join(filter(None, [*flags, *value, f"-d {_fish_word(argument.summary)}"]))


def _fish_word(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
"""The function that writes each shell's script."""
