"""The words of the command line, and the variables NTKHPC_* that stand for options which were not given.

`NTKHPC_TASK=mnist NTKHPC_RETRY=1 ntkhpc submit` is `ntkhpc submit --task=mnist --retry`. The Makefile hands over its
variables in this way, so a hostile value is never part of a shell line. What stands on the command line wins.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ntkhpc import __version__

VERBS = {
    "plan": "show what a study would compute and cost, and with a profile its scripts; writes nothing",
    "design": "what networks and draws reach an error, and the cheapest study of them; runs nothing",
    "submit": "make the run of a study and run every shard that has no receipt",
    "status": "one table: done, running, failed, missing, cost left",
    "resume": "run the missing shards of a run",
    "report": "analyse a run again with this code: figures, tables, report.html",
    "efficiency": "what the tasks of a run asked for against what they used",
    "doctor": "check this machine, and with a profile the compute nodes, before anything is submitted",
    "verify": "check every file, chunk and receipt of a run",
    "clean-kernels": "remove the kernels of a run whose curve is there",
    "schema": "print the table of the store's arrays",
}
"""Each verb and what it does."""

SWITCHES = {
    "retry": "try shards again that failed by a bug",
    "accept_change": "run missing shards with today's code and packages; recorded",
    "take_over": "run shards claimed on other hosts, if you know nobody works there",
    "partial": "use what is there of an incomplete run, and say so",
    "set_aside": "set damaged shards aside, so that resume runs them again",
}
"""Each option without a value and what it does."""

LARGEST_ERROR = 0.5
"""That is designed for: errors are to first order, which larger ones are not."""

_ON, _OFF = ("1", "yes", "true", "on"), ("0", "no", "false", "off")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The verb, as `verb`, and its options; ends the process with status 2 for a word or a variable that is none."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if hasattr(options, "run"):
        # A task that was named on the command line is not shadowed by an exported run.
        named = options.run if options.run is not None or options.task is not None else _given("run")
        options.run = named or ""
    if hasattr(options, "task") and options.task is None:
        options.task = _given("task") or ""
    for name in SWITCHES:
        if getattr(options, name, False) is None:
            try:
                setattr(options, name, _switch(_given(name)))
            except ValueError as error:
                parser.error(f"{variable(name)}: {error}")
    return options


def variable(option: str) -> str:
    """The environment variable that stands for an option."""
    return f"NTKHPC_{option.upper()}"


def _given(option: str) -> str | None:
    """What the environment says for an option; None for nothing and for an empty value."""
    return os.environ.get(variable(option)) or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ntkhpc",
        description="Measure and predict how much a network's test loss varies because of its random initialisation.",
        allow_abbrev=False,
        epilog="In a checkout `make VERB TASK=x RETRY=1` is `ntkhpc VERB --task=x --retry`; messages name the former.",
    )
    parser.add_argument("--version", action="version", version=f"ntkhpc {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    subs = {
        name: subparsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in VERBS.items()
    }
    _study(subs["plan"])
    _study(subs["design"])
    text = "the error to reach: 2%% or 0.02; relative, of exponents absolute"
    _value(subs["design"], "error", text, type=_share, default=_given("error"))
    _value(subs["design"], "quantity", "one quantity, such as mu_L or exponent_eps_L", default=_given("quantity") or "")
    _value(subs["design"], "out", "write the study file there, .toml", type=Path, default=_given("out"))
    _study(subs["submit"])
    _study(subs["doctor"], "time this study on a compute node, for `plan`: a name of jobs/, or a path")
    for name in ("status", "resume", "report", "efficiency", "verify", "clean-kernels"):
        _study(subs[name])
        _value(subs[name], "run", "a run directory, instead of --task and --runs")
    for name in ("plan", "design", "submit", "resume", "doctor"):
        _value(subs[name], "profile", "a cluster profile by name or path, or `local`", default=_given("profile") or "")
    for name in ("submit", "resume"):
        text = "worker processes (default: every core this process may use)"
        _value(subs[name], "cores", text, type=_positive, default=_given("cores"))
        _switches(subs[name], "retry", "accept_change", "take_over")
    _switches(subs["report"], "partial")
    _switches(subs["verify"], "set_aside")
    return parser


def _study(sub: argparse.ArgumentParser, text: str = "a study of jobs/ by name, or the path of a study file") -> None:
    _value(sub, "task", text)
    _value(sub, "runs", "where run directories are (default: runs)", type=Path, default=_given("runs") or "runs")


def _value(
    sub: argparse.ArgumentParser,
    name: str,
    text: str,
    *,
    type: Callable[[str], object] = str,
    default: str | None = None,
) -> None:
    sub.add_argument(f"--{name}", type=type, default=default, help=f"{text} [{variable(name)}]")


def _switches(sub: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        text = f"{SWITCHES[name]} [{variable(name)}=1]"
        sub.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, default=None, help=text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: say 2% or 0.02") from None
    if not 1e-4 <= value <= LARGEST_ERROR:
        raise argparse.ArgumentTypeError(
            f"{text!r} is {100 * value:g} %, and errors are between 0.01 % and {100 * LARGEST_ERROR:g} %"
        )
    return value


def _switch(text: str | None) -> bool:
    if text is None or text.lower() in _OFF:
        return False
    if text.lower() in _ON:
        return True
    raise ValueError(f"{text!r} is neither on ({', '.join(_ON)}) nor off ({', '.join(_OFF)}, or empty)")
