# SPDX-License-Identifier: Apache-2.0
"""Algorithm 2: an Episode in, a Diagnosis out."""
