"""A group of commands whose modules are imported when a command is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands by name and module; the module of ``a-name`` has ``a_name_command``."""

    def __init__(self, *args: Any, commands_in: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_in:
            return None
        module = importlib.import_module(self.commands_in[cmd_name])
        found: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands_in and not args[0].startswith("-"):
            from unlearnbench.registry import unknown

            raise unknown("command", args[0], self.commands_in, where=ctx.command_path)
        return super().resolve_command(ctx, args)
