# SPDX-License-Identifier: Apache-2.0
"""The ARMOR network: a Qwen2.5-VL backbone with a detection head, and its checkpoint."""
