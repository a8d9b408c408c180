# SPDX-License-Identifier: Apache-2.0
"""``python -m armor_ros.cli`` is the ``armor`` command."""

from armor_ros.cli import main

main()
