"""The `sd2rt` command, and the one place where an error becomes a line on stderr and an exit code.

0 ok, 1 failed, 2 wrong usage, 130 interrupted (143 by SIGTERM, 129 by SIGHUP). Knows no model and no engine: every verb lives in the
module of its group.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import click

from sd2rt.cli.batch import batch
from sd2rt.cli.build import build
from sd2rt.cli.completion import VARIABLE, completion, teach
from sd2rt.cli.config import config
from sd2rt.cli.console import Console, colours
from sd2rt.cli.depth2img import depth2img
from sd2rt.cli.doctor import doctor
from sd2rt.cli.engines import engines
from sd2rt.cli.export import export
from sd2rt.cli.export_triton import export_triton
from sd2rt.cli.generate import generate
from sd2rt.cli.grid import grid
from sd2rt.cli.img2img import img2img
from sd2rt.cli.info import info
from sd2rt.cli.inpaint import inpaint
from sd2rt.cli.models import models
from sd2rt.cli.quantize import quantize
from sd2rt.cli.reproduce import reproduce
from sd2rt.cli.serve import serve
from sd2rt.cli.settings import UNSET, default_map
from sd2rt.cli.signals import Stopped, stopping
from sd2rt.cli.upscale import upscale
from sd2rt.cli.verify import verify
from sd2rt.engine.errors import InvalidArgument, Sd2rtError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # what a disk, or what stdout leads to, may say


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sd2rt", message="%(prog)s %(version)s")
@click.pass_context
def sd2rt(context: click.Context) -> None:
    """Stable Diffusion 2 as optimized engines, without torch.

    \b
    Examples:
      sd2rt generate "a large red sphere" --out red.png
      sd2rt img2img "a large blue sphere" --image red.png --out blue.png
      sd2rt export ./stable-diffusion-2-1 --out ./sd21
      sd2rt generate "a lighthouse at dusk" --model ./sd21
    """
    if context.invoked_subcommand not in UNSET:
        assert isinstance(context.command, click.Group)
        context.default_map = default_map(context.command)


VERBS = (
    generate,
    img2img,
    inpaint,
    depth2img,
    upscale,
    batch,
    grid,
    reproduce,
    serve,
    export,
    export_triton,
    quantize,
    build,
    verify,
    engines,
    models,
    config,
    completion,
    info,
    doctor,
)
for command in VERBS:
    sd2rt.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, `sys.argv[1:]` when none is given, and return its exit code."""
    console = Console()
    console.debug = bool(os.environ.get("SD2RT_DEBUG"))
    if VARIABLE in os.environ:  # a shell asks, and this process answers nothing else
        teach(sd2rt)
    try:
        with stopping(), console.listening():
            code = sd2rt.main(args=argv, prog_name="sd2rt", standalone_mode=False, obj=console)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "sd2rt"
        return fail(f"{error.format_message()} (see '{where} --help')", USAGE, console)
    except InvalidArgument as error:
        return fail(str(error), USAGE, console)
    except (Sd2rtError, click.ClickException) as error:
        return fail(str(error), FAILED, console)
    except (click.Abort, KeyboardInterrupt) as error:
        stopped = error.__cause__ if isinstance(error, click.Abort) else error  # click makes the one of the other
        return fail("interrupted", stopped.exit_code if isinstance(stopped, Stopped) else INTERRUPTED, console)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again while it shuts down
        return FAILED
    except MemoryError:
        return fail("out of memory: smaller --width/--height, -n or --tile", FAILED, console)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            return fail(f"{error.filename or 'output'}: {error.strerror}", FAILED, console)
        hint = "" if console.debug else " (run again with -v for the traceback, and please report it)"
        return fail(f"unexpected {type(error).__name__}: {error}{hint}", FAILED, console)


def fail(message: str, code: int, console: Console) -> int:
    """Put one line on stderr, with the traceback of the exception being handled before it when debugging, and return `code`."""
    if console.debug:
        traceback.print_exc()
    name = click.style("sd2rt:", fg="red", bold=True) if colours() else "sd2rt:"
    click.echo(f"{name} {' '.join(message.split())}", err=True)
    return code
