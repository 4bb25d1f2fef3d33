"""How the programs speak to the person at the keyboard.

A mistake of the user's is a `UserError`: it names the place, says what was wanted and what came, and what to do.
`run_main` turns it into one message and exit code 2. Everything else is a bug of ours and keeps its traceback.
"""

import errno
import io
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend.

    place: the file, option or key at fault. problem: what was wanted and what came. remedy: what to do about it.
    """

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(place, problem, remedy)
        self.place, self.problem, self.remedy = place, problem, remedy

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}\n  {self.remedy}"


def _stop(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


_REMEDIES = {
    errno.ENOSPC: "Free some space, then run the same command again.",
    errno.EDQUOT: "Free some of your quota, then run the same command again.",
    errno.EACCES: "Give yourself permission, or choose another place.",
    errno.EPERM: "Give yourself permission, or choose another place.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.ENOTDIR: "A part of this path is a file: choose another place.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.EEXIST: "Something else bears this name: choose another.",
    errno.ENOENT: "It was there before, or should have been: check the path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
"""What to do about errors of the operating system that are seldom our fault."""


def run_main(main: Callable[[], None]) -> None:
    """Run a program's `main`; exit 2 with a message for a mistake of the user's, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another encoding shows "?", and loses no result
    try:
        main()
    except UserError as error:
        _stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop("\nstopped by Ctrl-C. The same command goes on where it left off.", 130)
    except BrokenPipeError:
        # The reader of our output (`| head`) left; stdout is pointed away so that the interpreter's own flush is quiet.
        # 128 + SIGPIPE, as a shell says it: the work was cut short, and whoever started us must not take it for done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        reason = "no space left" if error.errno == errno.ENOSPC else (error.strerror or "failed").lower()
        _stop(f"error: {error.filename or 'the disk'}: {reason}\n  {remedy}", 2)
