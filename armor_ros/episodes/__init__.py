# SPDX-License-Identifier: Apache-2.0
"""Camera frames and task events become Episodes. Neither torch nor rclpy is imported here."""
