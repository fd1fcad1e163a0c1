"""The completion: what a shell offers when Tab is pressed behind our name. Pure.

A script of its own kind for each shell, whole: pressing Tab does not start us.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .synopsis import PROGRAM, Argument, Command

NAMES = PROGRAM, f"{PROGRAM}.pyz"
"""What it is called, installed and as the single file that may be executed."""


def bash(whole: Command, commands: Sequence[Command]) -> str:
    """Write a script for bash 3.2, which macOS has, and newer."""
    options = [(each, option) for each in commands for option in each.options]
    rest = [flag for _, option in options if option.rest for flag in option.flags]
    values = "\n".join(_bash_values(options))
    words = "\n".join(
        f"        {each.name}) words='{' '.join(_bash_words(each))}' ;;" for each in commands
    )
    names = " ".join(each.name for each in commands)
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
        {"|".join(each.name for each in commands)}) [[ $command ]] || command=$word ;;
        esac
    done
    case "$command $before" in
{values}
    esac
    case $command in
        '') words='{names} {" ".join(_bash_words(whole))}' ;;
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
_broadcast_server_files() {{
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _broadcast_server {" ".join(NAMES)}
"""


def _bash_words(command: Command) -> Iterator[str]:
    for argument in command.arguments:
        yield from argument.flags or argument.known


def _bash_values(options: Sequence[tuple[Command, Argument]]) -> Iterator[str]:
    for command, option in options:
        if not option.metavar or option.rest:
            continue
        pattern = "|".join(f"'{command.name} {flag}'" for flag in option.flags)
        if option.known:
            offer = f"COMPREPLY=($(compgen -W '{' '.join(option.known)}' -- \"$current\")); return"
        elif option.is_file:
            offer = "_broadcast_server_files; return"
        else:  # nobody but who types knows
            offer = "return"
        yield f"        {pattern}) {offer} ;;"


def zsh(whole: Command, commands: Sequence[Command]) -> str:
    """Write a function for zsh, to be a file in a folder of its fpath, or to be sourced."""
    names = " ".join(f"{each.name}\\:{_zsh_word(each.summary)}" for each in commands)
    cases = "\n".join(
        f"    {each.name})\n        _arguments -s \\\n{_zsh_arguments(each.arguments)} ;;"
        for each in commands
    )
    return f"""\
#compdef {" ".join(NAMES)}
_broadcast_server() {{
    local context state line
    typeset -A opt_args
    _arguments -C \\
{_zsh_arguments(whole.arguments)} \\
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
    compdef _broadcast_server {" ".join(NAMES)}
fi
"""


def _zsh_arguments(arguments: Sequence[Argument]) -> str:
    return " \\\n".join(f"            {spec}" for each in arguments for spec in _zsh_specs(each))


def _zsh_specs(argument: Argument) -> Iterator[str]:
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


def fish(whole: Command, commands: Sequence[Command]) -> str:
    """Write a script for fish."""
    lines = [f"for program in {' '.join(NAMES)}", "    complete -c $program -f"]
    lines += [f"    complete -c $program {each}" for each in _fish_rules(whole, commands)]
    return "\n".join([f"# fish completion for {PROGRAM}", *lines, "end", ""])


def _fish_rules(whole: Command, commands: Sequence[Command]) -> Iterator[str]:
    first = "-n __fish_use_subcommand"
    for option in whole.options:
        yield f"{first} {_fish_argument(option)}"
    for command in commands:
        yield f"{first} -a {command.name} -d {_fish_word(command.summary)}"
        here = f"__fish_seen_subcommand_from {command.name}"
        for argument in command.arguments:
            if argument.flags or argument.known or argument.rest or argument.is_file:
                yield f"-n '{here}' {_fish_argument(argument)}"
            if argument.rest:  # and files behind it
                given = [f"; and __fish_contains_opt {each.strip('-')}" for each in argument.flags]
                yield f"-n '{here}{''.join(given[:1])}' -F"


def _fish_argument(argument: Argument) -> str:
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
