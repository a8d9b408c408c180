# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can mend."""


class ArmorError(Exception):
    """
    A mistake in input or set-up that the user can mend.

    The message names the value, the limit it broke and what to do. The command line prints it
    without a traceback; the node turns it into a report and a diagnostic.
    """
