# SPDX-License-Identifier: Apache-2.0
"""
Start the ARMOR monitor.

An argument that is given overrides the parameters file; one that is left empty does not.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

BOOLEANS = ['', 'true', 'false', 'True', 'False']
BOOLEAN_PARAMETERS = ('use_sim_time', 'autostart')
TEXT_PARAMETERS = ('checkpoint', 'quantization', 'interpreter')


def given_parameters(values: dict[str, str]) -> dict[str, bool | list[str] | ParameterValue]:
    """Return the parameters for the launch arguments that are not empty."""
    parameters: dict[str, bool | list[str] | ParameterValue] = {}
    for name in BOOLEAN_PARAMETERS:
        if values[name]:
            parameters[name] = values[name].lower() == 'true'
    for name in TEXT_PARAMETERS:
        if values[name]:
            # launch would else read 007 or true as YAML
            parameters[name] = ParameterValue(values[name], value_type=str)
    cameras = [camera.strip() for camera in values['cameras'].split(',') if camera.strip()]
    if cameras:
        parameters['cameras'] = cameras
    return parameters


def start_monitor(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node; the arguments have values only while launching."""
    values = {
        name: LaunchConfiguration(name).perform(context)
        for name in (*BOOLEAN_PARAMETERS, *TEXT_PARAMETERS, 'cameras')
    }
    return [
        LifecycleNode(
            package='armor_ros',
            executable='monitor',
            name='armor_monitor',
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'), given_parameters(values)],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            respawn=LaunchConfiguration('use_respawn').perform(context).lower() == 'true',
            respawn_delay=float(LaunchConfiguration('respawn_delay').perform(context)),
            # unbuffered, or the log appears late when it is piped
            additional_env={'PYTHONUNBUFFERED': '1'},
            output='screen',
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    default_parameters = PathJoinSubstitution(
        [FindPackageShare('armor_ros'), 'config', 'monitor.yaml']
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=default_parameters,
                description='Parameters of the monitor; copy the default and edit the copy.',
            ),
            DeclareLaunchArgument(
                'namespace',
                default_value='',
                description='Namespace of the node, its topics and services.',
            ),
            DeclareLaunchArgument(
                'checkpoint',
                default_value='',
                description='The model: a checkpoint folder, or a Qwen2.5-VL model of the hub. '
                "Empty: the parameters file's.",
            ),
            DeclareLaunchArgument(
                'cameras',
                default_value='',
                description='Cameras to watch, as name=topic,name=topic: '
                'front=/front/image_raw/compressed,wrist=/wrist/image_raw. '
                "Empty: the parameters file's.",
            ),
            DeclareLaunchArgument(
                'quantization',
                default_value='',
                choices=['', 'none', '8bit', '4bit'],
                description="Precision of the model. Empty: the parameters file's (none).",
            ),
            DeclareLaunchArgument(
                'interpreter',
                default_value='',
                description='Python interpreter of the inference process, in whose environment '
                "torch is installed. Empty: the parameters file's (the node's own).",
            ),
            DeclareLaunchArgument(
                'use_sim_time',
                default_value='',
                choices=BOOLEANS,
                description="Take the time from /clock. Empty: the parameters file's (false).",
            ),
            DeclareLaunchArgument(
                'autostart',
                default_value='',
                choices=BOOLEANS,
                description='Configure and activate the node at start; false leaves that to a '
                "lifecycle manager. Empty: the parameters file's (true).",
            ),
            DeclareLaunchArgument(
                'log_level', default_value='info', description='debug, info, warn, error, fatal.'
            ),
            DeclareLaunchArgument(
                'use_respawn',
                default_value='false',
                choices=BOOLEANS[1:],
                description='Start the node again when it ends by itself.',
            ),
            DeclareLaunchArgument(
                'respawn_delay', default_value='2.0', description='Seconds before a respawn.'
            ),
            OpaqueFunction(function=start_monitor),
        ]
    )
