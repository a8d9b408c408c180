# SPDX-License-Identifier: Apache-2.0
"""Bags and labelled samples, in and out."""
