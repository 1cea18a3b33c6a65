"""The devices that training runs on: how many there are, and the strategy that uses them all."""

from __future__ import annotations

import functools

import tensorflow as tf

from schemas.errors import ConfigurationError


def use_logical_cpus(count: int | None) -> None:
    """Makes this process's CPU count as `count` devices; None leaves things as they are.

    TensorFlow takes this only before its first operation in a process; asking again for the same number is harmless.

    Raises:
        ConfigurationError: TensorFlow already runs in this process with another number.
    """
    if count is None:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        if (present := len(tf.config.list_logical_devices("CPU"))) != count:
            raise ConfigurationError(
                f"training logical_cpu_devices is {count}, but TensorFlow already runs with {present} in this process; "
                "train in a process of its own"
            ) from error


def strategy_for_this_machine() -> tf.distribute.Strategy:
    """MirroredStrategy over all GPUs, or all logical CPUs where there is none; the default strategy for one device."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices)) if len(devices) > 1 else tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One per process: a second would number its collective operations like the first, and both would fail."""
    return tf.distribute.MirroredStrategy(list(devices))
