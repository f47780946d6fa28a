"""The ``ddpm-codec`` command: one module a command, no logic of its own, nothing that the library imports."""
