# SPDX-License-Identifier: Apache-2.0
"""
Show a recorded bag to the ARMOR monitor, on the bag's own clock.

All arguments of monitor.launch.py are taken too. The bag starts when the model is loaded.
"""

from __future__ import annotations

import shutil

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

# True for diagnostics, m, of the node {node} once its model is loaded.
MODEL_IS_READY = (
    "any(s.name == '{node}: inference' and s.message.startswith('ready') for s in m.status)"
)


def player(context: LaunchContext) -> Action:
    """Return what plays the bag: ros2 bag play where it is installed, else armor replay."""
    bag = LaunchConfiguration('bag').perform(context)
    rate = LaunchConfiguration('rate').perform(context)
    options = ['--rate', rate]
    if LaunchConfiguration('loop').perform(context).lower() == 'true':
        options.append('--loop')
    try:
        get_package_prefix('ros2bag')
    except PackageNotFoundError:
        armor = ExecutableInPackage(package='armor_ros', executable='armor')
        return ExecuteProcess(cmd=[armor, 'replay', bag, *options], output='screen')
    # the monitor needs a moment to find the topics before the first frames
    options += ['--clock', '100', '--delay', '2']
    return ExecuteProcess(cmd=['ros2', 'bag', 'play', bag, *options], output='screen')


def play_when_ready(context: LaunchContext) -> list[Action]:
    """Return the actions that wait for the model and then play the bag."""
    play = player(context)
    if shutil.which('ros2') is None:
        return [LogInfo(msg='no ros2 command here: the bag starts at once'), play]
    namespace = LaunchConfiguration('namespace').perform(context).strip('/')
    node = f'{namespace}/armor_monitor'.lstrip('/')
    # the type is given because the topic may not exist yet
    topic = ['/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray']
    wait = ExecuteProcess(
        name='wait_for_model',
        cmd=[
            'ros2',
            'topic',
            'echo',
            '--once',
            '--filter',
            MODEL_IS_READY.format(node=node),
            *topic,
        ],
        output='log',
    )

    def start(event: ProcessExited, _: LaunchContext) -> list[Action]:
        if event.returncode != 0:
            return [Shutdown(reason='waiting for the model failed; the bag was not played')]
        return [play]

    return [RegisterEventHandler(OnProcessExit(target_action=wait, on_exit=start)), wait]


def generate_launch_description() -> LaunchDescription:
    """Return the monitor with simulated time, and the player."""
    monitor = PathJoinSubstitution([FindPackageShare('armor_ros'), 'launch', 'monitor.launch.py'])
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='A rosbag2 folder or file.'),
            DeclareLaunchArgument(
                'rate', default_value='1.0', description='Speed: 2 is twice as fast as recorded.'
            ),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                choices=['true', 'false', 'True', 'False'],
                description='Begin again at the end.',
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(monitor),
                launch_arguments={'use_sim_time': 'true'}.items(),
            ),
            OpaqueFunction(function=play_when_ready),
        ]
    )
