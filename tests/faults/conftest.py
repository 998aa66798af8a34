"""Commands that are gone when their test is."""

import pytest

from tests.faults.commands import Command


@pytest.fixture
def start(tmp_path):
    """Starts a command in the test's folder, by default `skipline run` on its job file."""
    commands = []

    def begin(*arguments, **environment):
        commands.append(Command(tmp_path, *arguments, **environment))
        return commands[-1]

    yield begin
    for command in commands:
        command.kill()
