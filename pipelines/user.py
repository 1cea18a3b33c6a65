"""Who runs this process."""

import os
import pwd


def user() -> str:
    """The user of this process as the operating system knows it, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return f"uid {os.getuid()}"
