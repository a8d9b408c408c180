# SPDX-License-Identifier: Apache-2.0
"""Small data sets in other people's formats, as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from armor_ros.datasets.video import Frames, write_video
from armor_ros.episodes.picture import save_picture

PROMPT = (
    '<image>\n In the image, it contains many frames from different views depicting the robot arm '
    'performing {}.         Each frame is labeled. The white grid represents future sub-tasks. '
    'For the given sub-tasks, first determine it has succeed by choosing from ["yes", "no"].'
)
FEATURE_VIDEO = {'dtype': 'video', 'shape': [64, 96, 3], 'names': ['height', 'width', 'channel']}


def plain(value: int, height: int = 64, width: int = 96) -> Frames:
    """One picture in one grey."""
    return np.full((height, width, 3), value, np.uint8)


def ramp(frames: int, height: int = 64, width: int = 96, step: int = 4) -> Frames:
    """Frames of which each is lighter by ``step``: its grey tells which one it is."""
    return np.stack([plain(min(255, step * index), height, width) for index in range(frames)])


def greys(frames: Frames) -> list[int]:
    return [round(float(frame.mean())) for frame in frames]


def film(path: Path, frames: int = 30, fps: float = 15.0, **size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, ramp(frames, **size), fps)
    return path


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding='utf-8')
    return path


def conversation(identity: Any, image: str, answer: str, task: str = 'pick up the cup') -> dict:
    return {
        'id': identity,
        'image': image,
        'conversations': [
            {'from': 'human', 'value': PROMPT.format(task)},
            {'from': 'gpt', 'value': answer},
        ],
    }


def write_aha(root: Path) -> Path:
    attempt = 'basketball_in_hoop_grasp_wp1_episode0'
    for number in range(2):
        save_picture(root / attempt / f'{number}.png', plain(50 + 100 * number, 48, 96))
    dump(
        root / 'test.json',
        [
            conversation('1', f'/home/x/data/{attempt}/0.png', 'Yes, the robot succeed at it.'),
            conversation(2, f'/home/x/data/{attempt}/1.png', 'No, the gripper did not close.'),
        ],
    )
    return root


def write_armbench(root: Path) -> Path:
    for number, label in enumerate(('nominal', 'open', 'deconstruction')):
        film(root / 'videos' / f'v{number}.mp4', 6, 5.0, height=720, width=960)
        path = root / 'annotations' / f'v{number}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"id": "v{number}", "label": "{label}", "weight": NaN}}')
    (root / 'train.csv').write_text('v2,deconstruction\n')
    (root / 'test.csv').write_text('v0,nominal\nv1,open\n')
    return root


def lerobot_info(version: str, **features: Any) -> dict[str, Any]:
    return {
        'codebase_version': version,
        'fps': 15,
        'chunks_size': 1000,
        'total_episodes': 2,
        'splits': {'train': '0:1', 'test': '1:2'},
        'features': {
            'observation.images.front': FEATURE_VIDEO,
            'next.success': {'dtype': 'bool', 'shape': [1], 'names': None},
            'next.reward': {'dtype': 'float32', 'shape': [1], 'names': None},
            **features,
        },
    }


def lerobot_frames(episodes: list[int], length: int = 15) -> dict[str, list[Any]]:
    """Frames of episodes of which those with an odd number succeed."""
    rows = [(episode, frame) for episode in episodes for frame in range(length)]
    return {
        'episode_index': [episode for episode, _ in rows],
        'frame_index': [frame for _, frame in rows],
        'next.success': [episode % 2 == 1 and frame == length - 2 for episode, frame in rows],
        'next.reward': [float(frame) / length + episode for episode, frame in rows],
    }


def write_lerobot_v3(root: Path) -> Path:
    """Two episodes of one second that share a video and a table."""
    key = 'observation.images.front'
    dump(root / 'meta' / 'info.json', lerobot_info('v3.0'))
    film(root / 'videos' / key / 'chunk-000' / 'file-000.mp4', 30, 15.0)
    tables = {
        'meta/episodes/chunk-000/file-000.parquet': {
            'episode_index': [0, 1],
            'tasks': [['put the cube in the box'], ['open the drawer', 'close it']],
            'length': [15, 15],
            'data/chunk_index': [0, 0],
            'data/file_index': [0, 0],
            f'videos/{key}/chunk_index': [0, 0],
            f'videos/{key}/file_index': [0, 0],
            f'videos/{key}/from_timestamp': [0.0, 1.0],
            f'videos/{key}/to_timestamp': [1.0, 2.0],
            'stats/action/mean': [[0.0], [1.0]],
        },
        'data/chunk-000/file-000.parquet': lerobot_frames([0, 1]),
    }
    for name, columns in tables.items():
        write_table(root / name, columns)
    return root


def write_lerobot_v2(root: Path) -> Path:
    dump(root / 'meta' / 'info.json', lerobot_info('v2.1'))
    lines = []
    for episode in range(2):
        name = f'chunk-000/{{}}episode_{episode:06d}'
        video = root / 'videos' / (name.format('observation.images.front/') + '.mp4')
        film(video, 15, 15.0)
        write_table(root / 'data' / (name.format('') + '.parquet'), lerobot_frames([episode]))
        lines.append({'episode_index': episode, 'tasks': ['stack the blocks'], 'length': 15})
    (root / 'meta' / 'episodes.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
    return root


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def encoded(value: int) -> bytes:
    return bytes(cv2.imencode('.png', plain(value))[1])


def write_droid(root: Path) -> Path:
    for outcome, day in (('failure', '2023-07-09'), ('success', '2023-07-08')):
        attempt = root / 'AUTOLab' / outcome / day / 'Sat_Jul__8_09:47:12_2023'
        uuid = f'AUTOLab+x+{day}'
        serials = {'wrist': '11', 'ext1': '22', 'ext2': '33'}
        metadata: dict[str, Any] = {
            'uuid': uuid,
            'lab': 'AUTOLab',
            'success': outcome == 'success',
            'current_task': 'Move the cup',
            'wrist_cam_extrinsics': [float('nan')] * 6,
        }
        for camera, serial in serials.items():
            metadata[f'{camera}_cam_serial'] = serial
            metadata[f'{camera}_mp4_path'] = f'{outcome}/somewhere/recordings/MP4/{serial}.mp4'
            film(attempt / 'recordings' / 'MP4' / f'{serial}.mp4', 15)
        film(attempt / 'recordings' / 'MP4' / '11-stereo.mp4', 15)
        dump(attempt / f'metadata_{uuid}.json', metadata)
    return root


def write_robofac(root: Path) -> Path:
    def turns(question: str, answer: str) -> list[dict[str, str]]:
        return [
            {'from': 'human', 'value': f'<video>\n{question}'},
            {'from': 'assistant', 'value': answer},
        ]

    failed = {
        'Task identification': turns('What is the task?', 'Stack the cup on the cube.'),
        'Failure detection': turns('Was the task successfully completed?', 'No'),
        'Failure identification': turns('Which? options: [..]', 'Position deviation.'),
        'Failure explanation': turns('Why?', 'The gripper stopped left of the cup.'),
    }
    done = {'Failure detection': turns('Was the task successfully completed?', 'Yes.')}
    film(root / 'simulation_data' / 'failure_data' / 'SpinStack-v1' / 'a.mp4', 15)
    film(root / 'simulation_data' / 'success_data' / 'StackCube-v1' / 'b.mp4', 15)
    real = 'so100_insert/videos/observation.images.above/episode_000001.mp4'
    film(root / 'realworld_data' / real, 15)
    sim = {
        'v1': {'video': 'failure_data/Rotation-v1/a.mp4', 'task': 'Rotation', 'annos': failed},
        'v2': {
            'video': 'dataset_success_cleaned/StackCube-v1/b.mp4',
            'task': 'StackCube',
            'annos': done,
        },
    }
    dump(root / 'test_qa_sim' / 'annos_per_video_split0.json', sim)
    dump(
        root / 'test_qa_realworld' / 'annos_per_video_split0.json',
        {'r1': {'video': real, 'task': 'InsertCylinder', 'annos': failed}},
    )
    return root


def write_failsafe(root: Path, rows: bool = True) -> Path:
    seed = root / 'FailPickCube-v1' / '0'
    for attempt in ('Ground_Truth', '1_trans_x_2'):
        for camera in ('front', 'wrist'):
            for number in range(12):
                save_picture(seed / attempt / camera / f'{number}.png', plain(10 * number))
    if rows:
        listed = [
            f'FailPickCube-v1/0/1_trans_x_2/{camera}/{number}.png'
            for camera in ('front', 'wrist')
            for number in (2, 4, 6)
        ]
        row = {
            'task': 'FailPickCube-v1',
            'instruction': 'Pick up the red cube',
            'sub_task': 'reach the cube',
            'failure_type': 'trans_x',
            'image': listed,
        }
        done = row | {'failure_type': 'None', 'sub_task': 2, 'image': [listed[0]]}
        dump(root / 'json_files' / 'vla_data_FailPickCube-v1.json', [row, done])
    return root


WRITERS = {
    'aha': write_aha,
    'armbench': write_armbench,
    'lerobot': write_lerobot_v3,
    'droid': write_droid,
    'robofac': write_robofac,
    'failsafe': write_failsafe,
}
