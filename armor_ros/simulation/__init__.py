# SPDX-License-Identifier: Apache-2.0
"""A simulated arm that really fails, filmed by three cameras."""
