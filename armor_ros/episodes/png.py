# SPDX-License-Identifier: Apache-2.0
"""A look at the chunks of a PNG before a decoder believes what they say of their lengths."""

from __future__ import annotations

import struct

from armor_ros.episodes.image import DecodeError

PNG_START = b'\x89PNG\r\n\x1a\n'
# length and type before a chunk's data, a checksum after it
_AROUND = 12


def png_size(data: bytes) -> tuple[int, int]:
    """
    Return (width, height) of a PNG after a look at all of its chunks.

    Raises DecodeError when there is no header, a chunk claims more bytes than there are, or none
    is the last. OpenCV makes room for whatever a chunk claims: 4 GiB and many seconds for a
    damaged file of 200 bytes.
    """
    if len(data) < 24 or data[12:16] != b'IHDR':
        raise DecodeError(f'PNG of {len(data)} bytes is damaged: it has no header')
    position = len(PNG_START)
    while position + _AROUND <= len(data):
        length, kind = struct.unpack_from('>I4s', data, position)
        left = len(data) - position - _AROUND
        if length > left:
            raise DecodeError(
                f'PNG of {len(data)} bytes is damaged: a part of it claims {length} bytes, and '
                f'{left} are left'
            )
        if kind == b'IEND':
            width, height = struct.unpack_from('>II', data, 16)
            return int(width), int(height)
        position += _AROUND + length
    raise DecodeError(f'PNG of {len(data)} bytes is cut short: it has no end')
