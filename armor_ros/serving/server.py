# SPDX-License-Identifier: Apache-2.0
"""The inference server's process: ``python -m armor_ros.serving.server --help``."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from armor_ros.errors import ArmorError
from armor_ros.serving.app import InferenceServer
from armor_ros.serving.events import read_token
from armor_ros.serving.messages import MAX_MESSAGE_BYTES
from armor_ros.serving.streams import MAX_STREAMS, MEGABYTE, STREAM_MEGABYTES
from armor_ros.serving.worker import LoadedModel

_logger = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1

_DESCRIPTION = """\
Serve an ARMOR model to monitors. A monitor starts this process by itself; start it by hand to
run the model on another machine than the robot:

  python -m armor_ros.serving.server --checkpoint ./checkpoint --host 0.0.0.0 --port 7070 \\
      --token-file token.txt

and give the monitor the parameters  server: "gpu-machine:7070"  and  token_file: "token.txt".
Make a token with:  openssl rand -hex 32 > token.txt
The connection is not encrypted: use a network you trust, or a tunnel (WireGuard, ssh -L).
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m armor_ros.serving.server',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--checkpoint', required=True, help='checkpoint folder, or the name of a model on the hub'
    )
    parser.add_argument(
        '--quantization',
        choices=('none', '8bit', '4bit'),
        default='none',
        help='precision of the backbone (default: none)',
    )
    parser.add_argument(
        '--device', default='auto', help='auto (a GPU if there is one), cpu, cuda or cuda:N'
    )
    parser.add_argument(
        '--dtype', default='auto', help='auto, float32, bfloat16 or float16 (default: auto)'
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--unix', metavar='PATH', help='listen on a Unix socket')
    where.add_argument('--host', help='listen on this address of this machine (needs a token)')
    parser.add_argument('--port', type=int, default=7070, help='TCP port (default: 7070)')
    parser.add_argument(
        '--token-file', metavar='FILE', help='file with the secret that monitors must know'
    )
    parser.add_argument(
        '--session-megabytes',
        type=int,
        default=1024,
        help="bound of one task's frames in MiB (default: 1024)",
    )
    parser.add_argument(
        '--total-megabytes',
        type=int,
        default=4096,
        help='bound of all frames held in MiB (default: 4096)',
    )
    parser.add_argument(
        '--max-streams',
        type=int,
        default=MAX_STREAMS,
        help='tasks whose video is encoded while they run, at most; each takes memory beside the '
        f'model (default: {MAX_STREAMS}; 0: all is done when a task has ended)',
    )
    parser.add_argument(
        '--stream-megabytes',
        type=int,
        default=STREAM_MEGABYTES,
        help='bound of what running tasks hold encoded, in MiB; what does not fit is encoded when '
        f'a task has ended (default: {STREAM_MEGABYTES})',
    )
    parser.add_argument(
        '--exit-with-parent',
        action='store_true',
        help='end when standard input closes or the parent process dies (for supervisors)',
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until a signal; return the exit status."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format='%(levelname)s %(name)s: %(message)s', stream=sys.stderr
    )

    def load() -> LoadedModel:
        from armor_ros.inference.diagnoser import Diagnoser
        from armor_ros.model.checkpoint import load_checkpoint

        model = load_checkpoint(
            options.checkpoint,
            quantization=options.quantization,
            device=options.device,
            dtype=options.dtype,
        )
        diagnoser = Diagnoser(model)
        return LoadedModel(
            model.info, diagnoser.diagnose, diagnoser.open_stream, model.config.input_mode
        )

    try:
        serve(load, options)
    except ArmorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def serve(load: Callable[[], LoadedModel], options: argparse.Namespace) -> None:
    """
    Serve what ``load`` returns until a signal ends the process; does not wait for the model.

    Raises ArmorError when the address or the token file cannot be used.
    """
    if options.session_megabytes < 1 or options.total_megabytes < options.session_megabytes:
        raise ArmorError(
            f'--session-megabytes ({options.session_megabytes}) must be at least 1, and '
            f'--total-megabytes ({options.total_megabytes}) not smaller'
        )
    if options.max_streams < 0 or options.stream_megabytes < 0:
        raise ArmorError(
            f'--max-streams ({options.max_streams}) and --stream-megabytes '
            f'({options.stream_megabytes}) must be at least 0'
        )
    token = read_token(options.token_file) if options.token_file else ''
    if options.host and not token:
        raise ArmorError(
            f'--host {options.host} opens the server to a network: give it a --token-file too'
        )
    listener = _listen_unix(options.unix) if options.unix else _listen_tcp(options)
    if options.exit_with_parent:
        _exit_with_parent(options.unix)
    _run(load, options, token, listener)


def _run(
    load: Callable[[], LoadedModel],
    options: argparse.Namespace,
    token: str,
    listener: socket.socket,
) -> None:
    status = 0

    def give_up() -> None:
        nonlocal status
        status = 70
        _logger.error('the accelerator takes no more work from this process, which ends')
        server.should_exit = True

    inference = InferenceServer(
        load,
        token=token,
        session_bytes=options.session_megabytes * MEGABYTE,
        total_bytes=options.total_megabytes * MEGABYTE,
        max_streams=options.max_streams,
        stream_bytes=options.stream_megabytes * MEGABYTE,
        on_beyond_repair=give_up,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            inference.app,
            lifespan='on',
            loop='asyncio',
            log_config=None,
            log_level='warning',
            access_log=False,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=10,
            ws_ping_timeout=20,
            timeout_graceful_shutdown=1,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    address = options.unix or '{}:{}'.format(*listener.getsockname()[:2])
    _logger.info('listening at %s', address)
    try:
        server.run(sockets=[listener])
    except (SystemExit, KeyboardInterrupt):
        pass
    finally:
        if options.unix:
            with contextlib.suppress(OSError):
                os.unlink(options.unix)
    sys.stdout.flush()
    sys.stderr.flush()
    # An inference may still run in its thread: an ordinary exit would wait for it.
    os._exit(status)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _listen_unix(path: str) -> socket.socket:
    """Return a listening socket that only this user can reach."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ArmorError(f'--unix {path}: there is a file of that name; choose another')
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ArmorError(f'--unix {path}: {error}; a path may have about 100 bytes') from error
    finally:
        os.umask(mask)
    listener.listen()
    return listener


def _listen_tcp(options: argparse.Namespace) -> socket.socket:
    family = socket.AF_INET6 if ':' in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except (OSError, OverflowError) as error:
        raise ArmorError(f'--host {options.host} --port {options.port}: {error}') from error


def _exit_with_parent(unix_path: str | None) -> None:
    """End this process at the end of standard input, and when the parent is killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        # When memory runs out the model goes, not the robot's process.
        Path('/proc/self/oom_score_adj').write_text('500')

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        if unix_path:
            with contextlib.suppress(OSError):
                os.unlink(unix_path)
        os._exit(0)

    threading.Thread(target=watch, name='armor-parent-watch', daemon=True).start()


if __name__ == '__main__':
    sys.exit(main())
