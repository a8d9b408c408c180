# SPDX-License-Identifier: Apache-2.0
"""Labelled clips in, a checkpoint out (Algorithm 1)."""
