"""What a user sees: facts as lines, one view drawn anew, tables; all else goes to the job's log file."""

from .lines import Lines
from .live import LiveView
from .streams import Streams, console_on, diverted
from .tables import print_profiles, print_table
from .talking import reporting_on

__all__ = [
    "Lines",
    "LiveView",
    "Streams",
    "console_on",
    "diverted",
    "print_profiles",
    "print_table",
    "reporting_on",
]
