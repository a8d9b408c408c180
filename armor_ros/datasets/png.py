# SPDX-License-Identifier: Apache-2.0
"""A look at the chunks of a PNG before a decoder believes what they say of their lengths."""

from __future__ import annotations

import struct

from armor_ros.episodes.image import DecodeError

_START = b'\x89PNG\r\n\x1a\n'
# length and type before a chunk's data, a checksum after it
_AROUND = 12


def check_png(data: bytes) -> None:
    """
    Raise DecodeError when a chunk of a PNG claims more bytes than there are, or none is the last.

    OpenCV makes room for whatever a chunk claims: 4 GiB and many seconds for a damaged file of
    200 bytes. Data that is no PNG passes.
    """
    if not data.startswith(_START):
        return
    position = len(_START)
    while position + _AROUND <= len(data):
        length, kind = struct.unpack_from('>I4s', data, position)
        left = len(data) - position - _AROUND
        if length > left:
            raise DecodeError(
                f'PNG of {len(data)} bytes is damaged: a part of it claims {length} bytes, and '
                f'{left} are left'
            )
        if kind == b'IEND':
            return
        position += _AROUND + length
    raise DecodeError(f'PNG of {len(data)} bytes is cut short: it has no end')
