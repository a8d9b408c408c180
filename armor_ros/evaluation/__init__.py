# SPDX-License-Identifier: Apache-2.0
"""Bags in, the verdicts the robot would have given out."""
