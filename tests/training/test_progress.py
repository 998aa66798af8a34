"""What a running training tells reaches the user once."""

from pipeline.reporting import EpochLog
from pipeline.training.progress import ProgressBoard


class Heard:
    """A reporter that remembers."""

    def __init__(self):
        self.facts = []

    def say(self, text):
        self.facts.append(text)

    def advance(self, what, done, total, note=""):
        """Progress is not under test."""


def test_a_note_is_taken_once():
    board = ProgressBoard()
    board.note("loss spike")
    assert board.take().notes == ("loss spike",)
    assert board.take().notes == ()


def test_notes_are_told_to_the_user():
    board, heard = ProgressBoard(), Heard()
    board.note("loss spike")
    EpochLog(None, None, heard, epochs=2)(board.take())
    assert heard.facts == ["loss spike"]
