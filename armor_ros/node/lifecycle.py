# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node whose transitions never end the process."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from armor_ros.errors import ArmorError


class GuardedLifecycleNode(LifecycleNode):
    """
    Calls ``configure``, ``activate``, ``deactivate`` and ``clean_up`` of the node that derives.

    An ArmorError in one of them refuses the transition with its sentence; whatever else comes up
    leads to the error state, from which the node returns to unconfigured. ``shut_down`` must work
    from any state.
    """

    def configure(self) -> None:
        """Make what outlives an activation."""
        raise NotImplementedError

    def activate(self) -> None:
        """Begin to work."""
        raise NotImplementedError

    def deactivate(self) -> None:
        """Undo ``activate``."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Undo ``configure``."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """Undo all there is to undo."""
        raise NotImplementedError

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and create topics, services and timers; no model yet."""
        return self._guarded('configure', self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inference, and take frames and tasks from now on."""
        return self._guarded('activate', self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer what is open with CANCELED, and free the model."""
        return self._guarded('deactivate', self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop all that configuring made."""
        return self._guarded('clean up', self.clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave from any state."""
        return self._guarded('shut down', self.shut_down)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an error in a transition."""
        return self._guarded('recover', self.shut_down)

    def _guarded(self, what: str, transition: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            transition()
        except ArmorError as error:
            self.get_logger().error(f'cannot {what}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # an illegal state must not take the process down
            self.get_logger().error(f'cannot {what}: {type(error).__name__}: {error}')
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS
