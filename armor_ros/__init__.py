# SPDX-License-Identifier: Apache-2.0
"""ARMOR for ROS 2: watch the cameras, say what really happened."""

__version__ = '0.1.0'
