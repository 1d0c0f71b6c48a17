"""Options of commands that start jobs on SageMaker: one for each field of a job's settings."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from unmask.sagemaker import config

Command = TypeVar("Command", bound=Callable[..., Any])


def with_job_options(
    kind: type[config.JobConfig], *, before: str = ""
) -> Callable[[Command], Command]:
    """Give a command an option for each field; one not given is None or empty.

    before begins each option's help.
    """

    def decorate(command: Command) -> Command:
        for name, field in reversed(kind.model_fields.items()):
            flag = name.replace("_", "-")
            hint = "" if field.default in (None, (), {}) else f" [default: {field.default}]"
            words = f"{before}{field.description}{hint} [{config.variable(name, kind)}]"
            if field.annotation is bool:
                option = click.option(f"--{flag}/--no-{flag}", default=None, help=words)
            elif isinstance(field.default, (tuple, dict)):
                singular = "--variable" if name == "environment" else f"--{flag.removesuffix('s')}"
                option = click.option(
                    singular, name, multiple=True, help=f"{words} Can be repeated."
                )
            else:
                kinds = {field.annotation, *get_args(field.annotation)}
                number = next((each for each in (int, float) if each in kinds), str)
                option = click.option(f"--{flag}", name, type=number, help=words)
            command = option(command)
        return command

    return decorate


def given_ones(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ())}
