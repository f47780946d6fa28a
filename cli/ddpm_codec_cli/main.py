"""Where the program starts: signals and streams are made safe before anything else is imported.

Exit codes: 0 done; 1 the input, the file, the model or the output is at fault (one line on standard error);
2 the command line itself is wrong; 130 interrupted (Ctrl-C), 143 terminated, 129 hung up: 128 and the signal's number. Any
other exception is a defect and keeps its traceback.
"""

import sys
from collections.abc import Sequence

from ddpm_codec_cli.process import Interrupted, interruptible, safe_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: words after the program's name; the signals and streams of the process then stay as they are. None: those
            of the process, which is this program's own.
    """
    if arguments is not None:
        from ddpm_codec_cli.group import run

        return run(arguments)
    try:
        safe_streams()
        with interruptible():
            # Imported here, so that a signal meanwhile is one line too.
            from ddpm_codec_cli.group import run

            return run(None)
    except Interrupted as interruption:
        _say(str(interruption))
        return interruption.exit_code
    except KeyboardInterrupt:
        # Before the handlers were there.
        _say("interrupted")
        return 130


def _say(message: str) -> None:
    if sys.stderr is not None:
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)
        sys.stderr.write(f"ddpm-codec: error: {shown}\n")
        sys.stderr.flush()
