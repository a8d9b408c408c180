# SPDX-License-Identifier: Apache-2.0
"""The decoder against rosbags-image, against cv_bridge where there is one, and against damage."""

import array
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.episodes.decoding import (
    ENCODINGS,
    MAX_PIXELS,
    CompressedImage,
    DecodeError,
    RawImage,
    decode_image,
    resize,
)

WIDTH, HEIGHT = 24, 18
# Bytes a pixel, for all that is not planar.
PIXEL_BYTES = {
    'rgb8': 3,
    'bgr8': 3,
    'rgba8': 4,
    'bgra8': 4,
    'mono8': 1,
    'mono16': 2,
    'rgb16': 6,
    'bgr16': 6,
    'rgba16': 8,
    'bgra16': 8,
    'bayer_rggb8': 1,
    'bayer_bggr8': 1,
    'bayer_gbrg8': 1,
    'bayer_grbg8': 1,
    'bayer_rggb16': 2,
    'bayer_bggr16': 2,
    'bayer_gbrg16': 2,
    'bayer_grbg16': 2,
    'yuv422': 2,
    'uyvy': 2,
    'yuv422_yuy2': 2,
    'yuyv': 2,
}


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def scene() -> np.ndarray:
    """Return a smooth picture in RGB, in which red, green and blue differ."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 10, y * 14, 255 - x * 5 - y * 5], axis=-1).astype(np.uint8)


def raw(encoding: str, data: object, *, step: int = 0, big: bool = False) -> RawImage:
    return RawImage(encoding, WIDTH, HEIGHT, step, big, data)


def jpeg(picture: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode('.jpg', picture, list(options))
    assert done
    return bytes(data)


def png(picture: np.ndarray) -> bytes:
    done, data = cv2.imencode('.png', picture)
    assert done
    return bytes(data)


def rosbags_message(name: str, **fields: object) -> object:
    typesys = pytest.importorskip('rosbags.typesys')
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    time = store.types['builtin_interfaces/msg/Time'](0, 0)
    header = store.types['std_msgs/msg/Header'](time, 'camera')
    return store.types[f'sensor_msgs/msg/{name}'](header=header, **fields)


@pytest.mark.parametrize('encoding', PIXEL_BYTES)
@pytest.mark.parametrize('big', [False, True])
def test_raw_images_equal_those_of_rosbags_image(encoding: str, big: bool) -> None:
    golden = pytest.importorskip('rosbags.image')
    data = noise(WIDTH * HEIGHT * PIXEL_BYTES[encoding])
    wide = encoding.endswith('16')
    step = WIDTH * PIXEL_BYTES[encoding]
    message = rosbags_message(
        'Image',
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        # rosbags-image swaps the bytes of 8 bit YUV pairs too; byte order means nothing there.
        is_bigendian=int(big and wide),
        step=step,
        data=data,
    )
    expected = golden.message_to_cvimage(message, 'rgb8').astype(int)
    decoded = decode_image(raw(encoding, data, step=step, big=big)).astype(int)
    # Sixteen bits are cut here and scaled there, and rounded before or after the interpolation.
    assert np.abs(decoded - expected).max() <= (3 if wide else 0)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'mono16', 'bgra8', 'yuv422'])
def test_raw_images_equal_those_of_cv_bridge(encoding: str) -> None:
    bridge = pytest.importorskip('cv_bridge').CvBridge()
    messages = pytest.importorskip('sensor_msgs.msg')
    data = noise(WIDTH * HEIGHT * PIXEL_BYTES[encoding])
    message = messages.Image(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        step=WIDTH * PIXEL_BYTES[encoding],
        data=array.array('B', data.tobytes()),
    )
    expected = bridge.imgmsg_to_cv2(message, 'rgb8').astype(int)
    decoded = decode_image(raw(encoding, data)).astype(int)
    assert np.abs(decoded - expected).max() <= (1 if encoding == 'mono16' else 0)


@pytest.mark.parametrize('source', ['bgr8; jpeg compressed bgr8', 'jpeg', 'jpg', ''])
def test_jpeg_equals_that_of_rosbags_image(source: str) -> None:
    golden = pytest.importorskip('rosbags.image')
    data = jpeg(scene()[..., ::-1])
    message = rosbags_message('CompressedImage', format=source, data=np.frombuffer(data, np.uint8))
    expected = golden.message_to_cvimage(message, 'rgb8')
    assert np.array_equal(decode_image(CompressedImage(source, data)), expected)
    assert np.abs(expected.astype(int) - scene()).mean() < 8  # red is red


@pytest.mark.parametrize('encoding', [*PIXEL_BYTES, '8UC1', '8UC3', '8UC4', '16UC1', '32FC1'])
def test_row_padding_is_left_out(encoding: str) -> None:
    sizes = {'8UC1': 1, '8UC3': 3, '8UC4': 4, '16UC1': 2, '32FC1': 4}
    row = WIDTH * PIXEL_BYTES.get(encoding, sizes.get(encoding, 0))
    tight = noise(row * HEIGHT)
    padded = np.full((HEIGHT, row + 7), 255, np.uint8)
    padded[:, :row] = tight.reshape(HEIGHT, row)
    with np.errstate(all='ignore'):
        expected = decode_image(raw(encoding, tight, step=row))
        decoded = decode_image(raw(encoding, padded.tobytes(), step=row + 7))
        # Drivers leave the padding off the last row.
        short = decode_image(raw(encoding, padded.tobytes()[:-7], step=row + 7))
    assert np.array_equal(decoded, expected)
    assert np.array_equal(short, expected)
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize('alias', [('8UC1', 'mono8'), ('8UC3', 'bgr8'), ('16UC3', 'bgr16')])
def test_opencv_names_are_aliases(alias: tuple[str, str]) -> None:
    data = noise(WIDTH * HEIGHT * PIXEL_BYTES[alias[1]])
    first, second = (decode_image(raw(name, data)) for name in alias)
    assert np.array_equal(first, second)


def test_nv12_and_nv21() -> None:
    y, u, v = 100, 90, 200
    expected = np.clip(
        [
            1.164 * (y - 16) + 1.596 * (v - 128),
            1.164 * (y - 16) - 0.391 * (u - 128) - 0.813 * (v - 128),
            1.164 * (y - 16) + 2.018 * (u - 128),
        ],
        0,
        255,
    )
    luma = np.full(WIDTH * HEIGHT, y, np.uint8)
    for encoding, pair in (('nv12', [u, v]), ('nv21', [v, u])):
        chroma = np.tile(np.array(pair, np.uint8), WIDTH * HEIGHT // 4)
        data = np.concatenate([luma, chroma])
        decoded = decode_image(raw(encoding, data))
        assert decoded.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(decoded - expected).max() <= 2
        # Some drivers count the rows of both planes.
        both = RawImage(encoding, WIDTH, HEIGHT * 3 // 2, WIDTH, False, data)
        assert np.array_equal(decode_image(both), decoded)


def test_mono16_keeps_the_upper_byte_in_either_byte_order() -> None:
    values = np.arange(WIDTH * HEIGHT, dtype=np.uint16) * 151
    expected = (values >> 8).reshape(HEIGHT, WIDTH)
    for order, big in (('<u2', False), ('>u2', True)):
        decoded = decode_image(raw('mono16', values.astype(order).tobytes(), big=big))
        assert np.array_equal(decoded, np.dstack([expected] * 3))


def test_distances_are_spread_over_the_frame_and_missing_ones_black() -> None:
    depth = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    depth[0, 0], depth[0, 1], depth[0, 2] = 0, 500, 2500
    decoded = decode_image(raw('16UC1', depth.tobytes()))
    assert decoded[0, :3, 0].tolist() == [0, 1, 255]
    assert decoded[1, 1, 0] == round(1 + 254 * 500 / 2000)
    metres = depth.astype(np.float32) / 1000
    for nothing in (np.nan, np.inf, -np.inf):
        metres[0, 0] = nothing
        for order, big in (('<f4', False), ('>f4', True)):
            image = raw('32FC1', metres.astype(order).tobytes(), big=big)
            assert np.array_equal(decode_image(image), decoded)
    assert not decode_image(raw('32FC1', np.full(depth.shape, np.nan, 'f4').tobytes())).any()
    assert (decode_image(raw('32FC1', np.full(depth.shape, 1, 'f4').tobytes())) == 128).all()


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, np.array, array.array])
def test_data_may_be_any_buffer(kind: type) -> None:
    picture = scene()
    data = picture.tobytes()
    given_data = {
        np.array: lambda: np.frombuffer(data, np.uint8),
        array.array: lambda: array.array('B', data),
    }.get(kind, lambda: kind(data))()
    decoded = decode_image(raw('rgb8', given_data))
    assert np.array_equal(decoded, picture)
    assert decoded.flags.owndata
    compressed = png(picture[..., ::-1])
    given_data = array.array('B', compressed) if kind is array.array else compressed
    assert np.array_equal(decode_image(CompressedImage('png', given_data)), picture)


@pytest.mark.parametrize('source', ['rgb8; png compressed ', 'png', 'rgb8; png compressed bgr8'])
def test_png_channels_are_what_the_file_says(source: str) -> None:
    data = png(scene()[..., ::-1])
    assert np.array_equal(decode_image(CompressedImage(source, data)), scene())
    alpha = png(np.dstack([scene()[..., ::-1], np.full((HEIGHT, WIDTH), 9, np.uint8)]))
    assert np.array_equal(decode_image(CompressedImage(source, alpha)), scene())
    wide = png(scene()[..., ::-1].astype(np.uint16) * 256 + 77)
    assert np.array_equal(decode_image(CompressedImage('bgr16; png', wide)), scene())


def test_grey_files_are_shown_as_their_source_encoding_says() -> None:
    grey = noise(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    decoded = decode_image(CompressedImage('mono8; png compressed ', png(grey)))
    assert np.array_equal(decoded, np.dstack([grey] * 3))
    mosaic = decode_image(CompressedImage('bayer_rggb8; png compressed ', png(grey)))
    assert np.array_equal(mosaic, decode_image(raw('bayer_rggb8', grey)))
    depth = noise(WIDTH * HEIGHT * 2).view(np.uint16).reshape(HEIGHT, WIDTH)
    for encoding in ('16UC1', 'mono16'):
        decoded = decode_image(CompressedImage(f'{encoding}; png compressed ', png(depth)))
        assert np.array_equal(decoded, decode_image(raw(encoding, depth.tobytes())))
    colour = decode_image(CompressedImage('bayer_rggb8; jpeg compressed bgr8', jpeg(scene())))
    assert colour.shape == (HEIGHT, WIDTH, 3)


def test_one_pixel() -> None:
    pairs = {'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'}
    for encoding in ENCODINGS:
        image = RawImage(encoding, 1, 1, 0, False, b'\x42' * 8)
        if encoding in pairs:
            with pytest.raises(DecodeError, match=r'odd|even'):
                decode_image(image)
        else:
            assert decode_image(image).shape == (1, 1, 3)
    pixel = np.full((1, 1, 3), 7, np.uint8)
    assert decode_image(CompressedImage('png', png(pixel))).tolist() == [[[7, 7, 7]]]
    assert decode_image(CompressedImage('jpeg', jpeg(pixel))).shape == (1, 1, 3)


@pytest.mark.parametrize('progressive', [0, 1])
def test_every_cut_of_a_jpeg_is_refused(progressive: int) -> None:
    data = jpeg(scene(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode_image(CompressedImage('jpeg', data[:length]))
    assert decode_image(CompressedImage('jpeg', data + b'\0' * 100)).shape == (HEIGHT, WIDTH, 3)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_jpeg() -> None:
    data = jpeg(scene())
    thumbnail = jpeg(scene()[:8, :8])
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    decoded = decode_image(CompressedImage('jpeg', whole))
    assert np.array_equal(decoded, decode_image(CompressedImage('jpeg', data)))
    with pytest.raises(DecodeError, match='cut short'):
        decode_image(CompressedImage('jpeg', whole[:-2]))


def test_every_cut_of_a_png_is_refused() -> None:
    data = png(scene())
    for length in range(0, len(data) - 8):
        with pytest.raises(DecodeError):
            decode_image(CompressedImage('png', data[:length]))


def _giant_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg(scene()))
    position = data.index(b'\xff\xc0') + 5
    data[position : position + 4] = struct.pack('>HH', height, width)
    return bytes(data)


def _giant_png(width: int, height: int) -> bytes:
    data = bytearray(png(scene()))
    data[16:24] = struct.pack('>II', width, height)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize('width', [10_000, 65_000])
def test_a_header_that_claims_too_much_is_refused_before_decoding(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    for data in (_giant_jpeg(width, 10_000), _giant_png(width, 10_000)):
        with pytest.raises(DecodeError, match=str(MAX_PIXELS)):
            decode_image(CompressedImage('', data))
    with pytest.raises(DecodeError, match=str(MAX_PIXELS)):
        decode_image(RawImage('mono8', width, 10_000, 0, False, b'\0'))


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (RawImage('rgb8', 0, 0, 0, False, b''), 'no content'),
        (RawImage('rgb8', 4, 4, 12, False, b''), 'data is 0 bytes'),
        (RawImage('rgb8', 4, 4, 12, False, bytes(47)), 'data is 47 bytes'),
        (RawImage('rgb8', 4, 4, 11, False, bytes(48)), 'step 11'),
        (RawImage('nv12', 4, 4, 4, False, bytes(23)), 'data is 23 bytes'),
        (RawImage('yuv422', 3, 4, 6, False, bytes(24)), 'odd'),
        (RawImage('rgb9', 4, 4, 12, False, bytes(48)), "'rgb9' is not supported"),
        (RawImage('', 4, 4, 12, False, bytes(48)), 'not supported'),
        (RawImage('x' * 10**6, 4, 4, 12, False, bytes(48)), 'not supported'),
        (RawImage('rgb8', 4, 4, 12, False, 'text'), 'cannot be decoded'),
        (RawImage('rgb8', -4, 4, 12, False, bytes(48)), 'no content'),
        (CompressedImage('jpeg', b''), '0 bytes'),
        (CompressedImage('jpeg', b'\xff\xd8\xff'), 'cut short'),
        (CompressedImage('png', b'\x89PNG\r\n\x1a\n'), 'no header'),
        (CompressedImage('webp', b'RIFF1234WEBP'), 'neither JPEG nor PNG'),
        (CompressedImage('16UC1; compressedDepth png', bytes(12) + b'\x89PNG'), 'raw depth'),
        (CompressedImage('jpeg', _giant_jpeg(0, 0)), 'no content'),
    ],
)
def test_refusals_say_what_is_wrong(image: RawImage | CompressedImage, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        decode_image(image)
    assert len(str(caught.value)) < 800


@settings(deadline=None, max_examples=300)
@given(
    encoding=st.sampled_from([*ENCODINGS, 'unknown']),
    size=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    step=st.integers(0, 99),
    big=st.booleans(),
    data=st.binary(max_size=900),
)
def test_raw_garbage_never_crashes(
    encoding: str, size: tuple[int, int], step: int, big: bool, data: bytes
) -> None:
    try:
        decoded = decode_image(RawImage(encoding, *size, step, big, data))
    except DecodeError:
        return
    assert decoded.shape[1] == size[0]
    assert decoded.shape[2] == 3


@settings(deadline=None, max_examples=200)
@given(where=st.integers(0, 10_000), value=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_damaged_files_never_crash(where: int, value: bytes, cut: bool) -> None:
    for data in (bytearray(jpeg(scene())), bytearray(png(scene()))):
        position = where % len(data)
        data[position : position + (len(data) if cut else len(value))] = value
        try:
            decoded = decode_image(CompressedImage('jpeg', bytes(data)))
        except DecodeError:
            continue
        assert decoded.ndim == 3


@pytest.mark.parametrize(
    ('smallest', 'shape'),
    [
        ((200, 300), (200, 300)),
        ((101, 100), (200, 300)),
        ((100, 150), (100, 150)),
        ((50, 60), (50, 75)),
        ((1, 1), (25, 38)),
    ],
)
def test_large_jpegs_are_decoded_no_larger_than_needed(
    smallest: tuple[int, int], shape: tuple[int, int]
) -> None:
    y, x = np.mgrid[0:200, 0:300]
    picture = np.stack([x * 0.8, y, 255 - x * 0.5], axis=-1).astype(np.uint8)
    image = CompressedImage('jpeg', jpeg(picture[..., ::-1]))
    decoded = decode_image(image, smallest=smallest)
    assert decoded.shape == (*shape, 3)
    expected = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(decoded.astype(int) - expected).mean() < 3
    # A grey file may be a mosaic, and a mosaic must stay whole.
    grey = CompressedImage('bayer_rggb8; jpeg', jpeg(picture[..., 0]))
    assert decode_image(grey, smallest=smallest).shape == (200, 300, 3)


def test_resize_by_halves_equals_resize_at_once() -> None:
    picture = cv2.GaussianBlur(noise(600 * 800 * 3).reshape(600, 800, 3), (0, 0), 3)
    at_once = cv2.resize(picture, (140, 110), interpolation=cv2.INTER_AREA)
    difference = np.abs(resize(picture, (110, 140)).astype(int) - at_once)
    assert difference.max() <= 8
    assert difference.mean() <= 1.5


def test_resize_averages_down_interpolates_up_and_leaves_equals_alone() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    picture = np.dstack([board] * 3).astype(np.uint8)
    assert resize(picture, (64, 64)) is picture
    small = resize(picture, (16, 32))
    assert small.shape == (16, 32, 3)
    assert np.abs(small.astype(int) - 127).max() <= 1
    assert resize(picture[:1, :1], (308, 308)).shape == (308, 308, 3)


def test_a_png_whose_chunk_claims_gigabytes_is_refused_at_once() -> None:
    good = cv2.imencode('.png', np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    lying = good[:33] + b'\xff\xff\xff\xf0IDAT' + good[41:]
    with pytest.raises(DecodeError, match='claims 4294967280 bytes'):
        decode_image(CompressedImage('png', lying))
