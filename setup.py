# SPDX-License-Identifier: Apache-2.0
"""Install armor_ros: by colcon on a machine with ROS 2, by pip on any other."""

import os
from glob import glob

from setuptools import find_packages, setup

NAME = 'armor_ros'


def package_files(package):
    """Return every file of a package that is not Python: assets of the simulation and such."""
    root = package.replace('.', os.sep)
    return [
        os.path.relpath(os.path.join(folder, file), root)
        for folder, _, files in os.walk(root)
        for file in files
        if not file.endswith(('.py', '.pyc'))
    ]


# What evaluation, training and simulation have in common with the inference process.
INFERENCE = [
    'accelerate',
    'bitsandbytes; platform_system == "Linux"',
    'huggingface-hub',
    'safetensors',
    'starlette',
    'tokenizers',
    'torch>=2.5',
    'transformers>=5.17',
    'uvicorn',
]
BAGS = ['backports.zstd; python_version < "3.14"', 'lz4', 'rosbags>=0.11']
VIDEOS = ['av>=12']

EXTRAS = {
    # armor_ros.serving.server, .inference, .model: the environment named by `interpreter`
    'inference': INFERENCE,
    # armor evaluate, compare, calibrate, dataset
    'evaluation': [
        *INFERENCE,
        *BAGS,
        *VIDEOS,
        'jinja2',
        'markupsafe',
        'pillow',
        'plotly',
        'pyarrow>=15',
        'rich',
        'rouge-score',
        'scikit-learn',
        'scipy',
    ],
    # explanations judged, and tasks answered, by a model behind an API
    'apis': ['anthropic', 'openai'],
    # armor train
    'training': [
        *INFERENCE,
        *BAGS,
        *VIDEOS,
        'filelock',
        'matplotlib',
        'peft',
        'rich',
        'tensorboard',
    ],
    # armor simulate, armor replay, armor demo
    'simulation': [*BAGS, *VIDEOS, 'mujoco>=4.0,<5', 'rich', 'scikit-learn'],
    # colcon test runs pytest only where this extra is declared
    'test': ['hypothesis', 'pytest', 'pytest-timeout'],
    # linters, what the tests compare with, and what shares them among processes
    'dev': [
        'fastapi',
        'import-linter',
        'mypy',
        'pytest-xdist',
        'rosbags-image',
        'ruff',
        'types-PyYAML',
    ],
}

setup(
    name=NAME,
    version='0.1.0',
    description="Watches a robot's cameras and reports whether its tasks really succeeded.",
    maintainer='ARMOR for ROS 2 maintainers',
    maintainer_email='armor@users.noreply.github.com',
    license='Apache-2.0',
    packages=find_packages(include=[NAME, NAME + '.*']),
    package_data={NAME: package_files(NAME)},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
        ('share/' + NAME + '/launch', sorted(glob('launch/*.launch.py'))),
        ('share/' + NAME + '/config', sorted(glob('config/*.yaml') + glob('config/*.xml'))),
        ('share/' + NAME + '/config/simulation', sorted(glob('config/simulation/*.yaml'))),
        ('share/' + NAME + '/config/training', sorted(glob('config/training/*.yaml'))),
        (
            'share/' + NAME + '/config/training/study',
            sorted(glob('config/training/study/*.yaml')),
        ),
        ('share/' + NAME + '/config/accelerate', sorted(glob('config/accelerate/*.yaml'))),
    ],
    zip_safe=False,
    python_requires='>=3.10',
    # rclpy and the messages come with ROS, or from requirements/ros-kilted.txt; never from here.
    install_requires=[
        'msgpack',
        'numpy>=1.21',
        'opencv-python-headless>=4.5',
        'PyYAML',
        'setuptools',
        'typer',
        'websockets',
    ],
    extras_require=EXTRAS,
    entry_points={
        'console_scripts': [
            'armor = armor_ros.cli:main',
            'monitor = armor_ros.node.main:main',
        ],
    },
)
