# SPDX-License-Identifier: Apache-2.0
"""A simulated episode as a robot would record it: messages with stamps, in log order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.datasets.bags import BagClock, BagImage, BagMessage
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.decoding import CompressedImage
from armor_ros.errors import ArmorError
from armor_ros.simulation.engine import make_renderer, mujoco
from armor_ros.simulation.policy import TICK_STEPS
from armor_ros.simulation.robot import ARM_JOINTS, FINGER_JOINTS, Cell
from armor_ros.simulation.transforms import transforms_of
from armor_ros.simulation.world import CAMERAS

CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
JOINT_STATE_TYPE = 'sensor_msgs/msg/JointState'
TF_TYPE = 'tf2_msgs/msg/TFMessage'

_JPEG_QUALITY = 75
_STILL = 2e-5  # metres and radians
_SECOND = 1_000_000_000
_LATENCY_NS = (9_000_000, 17_000_000)


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A serialized message of a type that has no plain value of ours."""

    topic: str
    kind: str
    log_ns: int
    data: bytes


Record = BagMessage | RawRecord


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """``size`` pixels a side of the square pictures, ``rate`` pictures a second and camera."""

    size: int = 320
    rate: float = 15.0

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 960:
            raise ArmorError(f'picture size {self.size} is outside 32 to 960 pixels')
        if not 1.0 <= self.rate <= 60.0:
            raise ArmorError(f'picture rate {self.rate} is outside 1 to 60 a second')


class Camera:
    """
    Takes pictures of a cell with its cameras; a context manager, as it holds GL resources.

    On a CPU two thirds of a picture's time go into the vertices of the two passes that shadows
    add. So flat faces are not subdivided, and ornaments cast no shadow (about 20 -> 13 ms).
    """

    def __init__(self, cell: Cell, size: int):
        self._cell = cell
        cell.model.vis.quality.numquads = 1
        self._renderer = make_renderer(cell.model, size, size)
        self._ornaments = _ornaments(cell.model)
        self._state: npt.NDArray[np.float64] | None = None
        self._views: dict[str, npt.NDArray[np.uint8]] = {}

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the GL resources."""
        self._renderer.close()

    def picture(self, camera: str) -> npt.NDArray[np.uint8]:
        """Return what a camera sees now, (size, size, 3) RGB."""
        self._renderer.update_scene(self._cell.data, camera)
        scene = self._renderer.scene
        for geom in scene.geoms[: scene.ngeom]:
            if geom.objtype == _GEOM and geom.objid in self._ornaments:
                geom.category = _NO_SHADOW
        picture: npt.NDArray[np.uint8] = self._renderer.render()
        return picture

    def views(self) -> dict[str, npt.NDArray[np.uint8]]:
        """
        Return what each camera of ``CAMERAS`` sees now.

        A cell in which nothing moved since the last call is not rendered again: the very same
        dictionary is returned.
        """
        state = np.array(self._cell.data.qpos)
        if self._state is None or np.abs(state - self._state).max() >= _STILL:
            self._views = {name: self.picture(name) for name in CAMERAS}
            self._state = state
        return self._views


_GEOM = int(mujoco.mjtObj.mjOBJ_GEOM)
_NO_SHADOW = int(mujoco.mjtCatBit.mjCAT_DECOR)


def _ornaments(model: Any) -> frozenset[int]:
    """Return the geoms that are only drawn upon others: no meshes, and nothing touches them."""
    untouchable = (model.geom_contype == 0) & (model.geom_conaffinity == 0)
    drawn = model.geom_type != mujoco.mjtGeom.mjGEOM_MESH
    return frozenset(np.flatnonzero(untouchable & drawn).tolist())


class Recorder:
    """
    An observer of an episode that keeps what a robot would record.

    ``epoch_ns`` is the time on the robot's clock at which the episode's clock is 0. Camera stamps
    are the instants at which the pictures were taken; they are logged some milliseconds later.
    """

    def __init__(self, settings: FilmSettings, epoch_ns: int, seed: int):
        self.records: list[Record] = []
        self._settings = settings
        self._epoch_ns = epoch_ns
        self._rng = np.random.default_rng(seed)
        self._types = armor_types()
        self._camera: Camera | None = None
        self._frames = 0
        self._views: dict[str, npt.NDArray[np.uint8]] = {}
        self._filmed: dict[str, bytes] = {}

    def __call__(self, cell: Cell) -> None:
        """Take down what is due after a step of the physics."""
        stamp_ns = self._epoch_ns + cell.time_ns
        if cell.steps % TICK_STEPS == 0:
            self.records.append(BagClock(stamp_ns, stamp_ns))
            self.records.append(self._joint_state(cell, stamp_ns))
        if cell.time_ns >= self._frames * _SECOND / self._settings.rate:
            self._frames += 1
            self.records.append(self._transforms(cell, stamp_ns))
            self._film(cell, stamp_ns)

    def close(self) -> None:
        """Free the camera."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _film(self, cell: Cell, stamp_ns: int) -> None:
        self._take_pictures(cell)
        for name in CAMERAS:
            log_ns = stamp_ns + int(self._rng.integers(*_LATENCY_NS))
            image = CompressedImage('jpeg', self._filmed[name])
            topic = f'/{name}/image_raw/compressed'
            self.records.append(BagImage(topic, log_ns, stamp_ns, image))
            self.records.append(self._camera_info(cell, name, stamp_ns, log_ns))

    def _take_pictures(self, cell: Cell) -> None:
        """Fill ``_filmed``; the same views are not encoded again."""
        if self._camera is None:
            self._camera = Camera(cell, self._settings.size)
        views = self._camera.views()
        if views is not self._views:
            self._filmed = {name: encode_jpeg(view) for name, view in views.items()}
            self._views = views

    def _joint_state(self, cell: Cell, stamp_ns: int) -> RawRecord:
        message = self._types.types[JOINT_STATE_TYPE](
            header=self._header(stamp_ns, 'panda_link0'),
            name=[*ARM_JOINTS, *FINGER_JOINTS],
            position=np.concatenate([cell.joints, cell.fingers]),
            velocity=cell.joint_velocities,
            effort=cell.joint_efforts,
        )
        return self._raw('/joint_states', JOINT_STATE_TYPE, stamp_ns + 1_000_000, message)

    def _transforms(self, cell: Cell, stamp_ns: int) -> RawRecord:
        types = self._types.types
        stamped = []
        for frame in transforms_of(cell):
            w, qx, qy, qz = frame.quat.tolist()
            x, y, z = frame.position.tolist()
            transform = types['geometry_msgs/msg/Transform'](
                translation=types['geometry_msgs/msg/Vector3'](x=x, y=y, z=z),
                rotation=types['geometry_msgs/msg/Quaternion'](x=qx, y=qy, z=qz, w=w),
            )
            stamped.append(
                types['geometry_msgs/msg/TransformStamped'](
                    header=self._header(stamp_ns, frame.parent),
                    child_frame_id=frame.child,
                    transform=transform,
                )
            )
        message = types[TF_TYPE](transforms=stamped)
        return self._raw('/tf', TF_TYPE, stamp_ns + 1_000_000, message)

    def _camera_info(self, cell: Cell, name: str, stamp_ns: int, log_ns: int) -> RawRecord:
        size = self._settings.size
        focal = focal_length(cell, name, size)
        center = size / 2
        types = self._types.types
        message = types[CAMERA_INFO_TYPE](
            header=self._header(stamp_ns, name),
            height=size,
            width=size,
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=np.array([focal, 0, center, 0, focal, center, 0, 0, 1], dtype=float),
            r=np.eye(3).ravel(),
            p=np.array([focal, 0, center, 0, 0, focal, center, 0, 0, 0, 1, 0], dtype=float),
            binning_x=0,
            binning_y=0,
            roi=types['sensor_msgs/msg/RegionOfInterest'](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )
        return self._raw(f'/{name}/camera_info', CAMERA_INFO_TYPE, log_ns, message)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(stamp_ns, _SECOND)
        stamp = self._types.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
        return self._types.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)

    def _raw(self, topic: str, kind: str, log_ns: int, message: Any) -> RawRecord:
        return RawRecord(topic, kind, log_ns, bytes(self._types.serialize_cdr(message, kind)))


def focal_length(cell: Cell, camera: str, size: int) -> float:
    """Return a camera's focal length in pixels, for square pictures of ``size``."""
    fovy = float(cell.model.cam_fovy[mujoco.mj_name2id(cell.model, _CAMERA_OBJECT, camera)])
    return size / 2 / float(np.tan(np.radians(fovy) / 2))


_CAMERA_OBJECT = mujoco.mjtObj.mjOBJ_CAMERA


def encode_jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return an RGB picture (H, W, 3) as a JPEG file's bytes."""
    done, data = cv2.imencode(
        '.jpg',
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    )
    if not done:
        raise ArmorError('OpenCV could not encode a picture as JPEG')
    return data.tobytes()


def write_records(writer: BagWriter, records: list[Record]) -> None:
    """Write records in the order of their log times."""
    for record in in_log_order(records):
        if isinstance(record, RawRecord):
            writer.write_raw(record.topic, record.kind, record.log_ns, record.data)
        else:
            writer.write(record)


def in_log_order(records: list[Record]) -> Iterator[Record]:
    """Yield records by log time; those of the same instant stay in their order."""
    yield from sorted(records, key=lambda record: record.log_ns)
