"""The command line: parsing and printing only. Commands stand in prepare, runs, report and ask; printing in show."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from corsar.cli import ablate as ablate
from corsar.cli import ask as ask
from corsar.cli import compare as compare
from corsar.cli import data as data
from corsar.cli import data_look as data_look
from corsar.cli import prepare as prepare
from corsar.cli import report as report
from corsar.cli import runs as runs
from corsar.cli import serve as serve
from corsar.cli import up as up
from corsar.cli.app import app
from corsar.cli.show import fail
from corsar.errors import ConfigError, CorsarError, disk_fault


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 on input at fault, with 130 on Ctrl-C."""
    try:
        tokens = gather_settings(sys.argv[1:] if argv is None else argv)
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
        sys.stdout.flush()
    except CorsarError as error:
        fail(str(error))
    except CycloptsError as error:
        fail(f"{str(error).strip()} See corsar --help.")
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        fail(f"cannot use {error.filename or 'a file or the output'}: {disk_fault(error)}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def gather_settings(argv: Sequence[str]) -> list[str]:
    """The same arguments with each `--section.key value` told as one `--section.key=section.key=value`."""
    tokens, out = list(argv), []
    while tokens:
        token = tokens.pop(0)
        match = re.fullmatch(r"--(preset|[a-z]+\.[A-Za-z_][\w-]*)(?:=(.*))?", token, re.DOTALL)
        if match is None:
            out.append(token)
            continue
        name, value = match.groups()
        if value is None:
            if not tokens or tokens[0].startswith("--"):
                raise ConfigError(f"--{name} needs a value, as in: --{name} 3")
            value = tokens.pop(0)
        out.append(f"--section.key={name}={value}")
    return out
