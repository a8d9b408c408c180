# SPDX-License-Identifier: Apache-2.0
"""Inference in a process of its own, here or on another machine."""
