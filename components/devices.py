"""The devices that training runs on: how many there are, and the strategy that uses them all."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from components.training.config import Precision
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
    """The strategy that uses all devices that there are.

    MultiWorkerMirroredStrategy where `TF_CONFIG` names several workers, which TensorFlow reads itself; else
    MirroredStrategy over all GPUs, or all logical CPUs where there is none; the default strategy for one device.

    Raises:
        ConfigurationError: there are several workers, and TensorFlow already runs in this process.
    """
    if _workers() > 1:
        return _several_workers()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices)) if len(devices) > 1 else tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what all workers of a strategy have made: it alone, or the first of several."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return bool(resolver.task_type == first and resolver.task_id == 0)


def precision_of_devices(asked: Precision) -> str:
    """The precision to train with on the devices of this process; see `precision_of`."""
    gpus = tf.config.list_physical_devices("GPU")
    details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
    return precision_of(asked, [one.get("compute_capability", (0, 0)) for one in details])


def precision_of(asked: Precision, gpus: Sequence[tuple[int, int]]) -> str:
    """Keras' name of the precision that is asked for, where it is `automatic` the fastest that all GPUs are made for.

    Args:
        asked: as configured.
        gpus: their compute capabilities; 7.0 brought units for float16, 8.0 those for bfloat16.
    """
    if asked != "automatic":
        return asked
    least = min(gpus, default=(0, 0))
    if least >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if least >= (7, 0) else "float32"


def _workers() -> int:
    jobs = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    return sum(len(jobs.get(job, ())) for job in ("chief", "worker"))


@functools.cache
def _several_workers() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigurationError(
            "TF_CONFIG names several workers, but TensorFlow already runs in this process, and takes them only before; "
            f"train in a process of its own ({error})"
        ) from error


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One per process: a second would number its collective operations like the first, and both would fail."""
    return tf.distribute.MirroredStrategy(list(devices))
