"""Settings that every check shares, however it is started."""

import os

# Chapters run as their outputs were stored: without progress bars.
os.environ["WSP_PROGRESS"] = "0"
os.environ["PYTHONHASHSEED"] = "0"
