"""The `opscore` command."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from opscore.gateway.commands import simulate_command, store_commands, workflow_commands
from opscore.gateway.commands.failures import EXIT_FAILED, UNWRITTEN, Failed, Misused, discard_unwritten
from opscore.gateway.keys.key_file import KeysError
from opscore.gateway.keys.keys import KeyRing
from opscore.gateway.settings import config
from opscore.gateway.settings.config import ConfigError, Settings
from opscore.runtime.storage.files import make_directory

_log = logging.getLogger("opscore.gateway")


def run() -> int:
    """Run the command that the arguments name.

    Returns:
        the exit code, unless the command ends the process itself.

    Raises:
        KeyboardInterrupt: Ctrl-C, which click by itself would turn into "Aborted!" and exit code 1.
    """
    try:
        return main(standalone_mode=False) or 0
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITTEN:
            raise
        Failed(f"the output: {error.strerror}").show()
        return EXIT_FAILED
    finally:
        discard_unwritten()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="opscore", message="opscore %(version)s")
def main() -> None:
    """Durable agent operations: hand work to idle agents, and lose none of it.

    Every command exits with 0 when it succeeded, with 1 when it failed or found something wrong, with 2 when it was
    misused, or when another process uses the data directory or another release or program wrote it, and with 130
    after Ctrl-C. A server that is told to stop exits with 0.
    """


@main.command()
@config.options
def serve(settings: Settings) -> None:
    """Run the HTTP gateway on a data directory.

    Each option can also be set as OPSCORE_<NAME> in the environment, or in a TOML file under [opscore], with
    underscores in its name (lease_s = 60). An OPSCORE_ variable that is no setting is logged as a warning; an
    unknown name in a file is refused. The API key and the webhook's secret have no option, because `ps` would
    show them: set OPSCORE_API_KEY and OPSCORE_WEBHOOK_SECRET. On SIGTERM, SIGHUP or Ctrl-C the server drains and
    exits with 0; on a second one it exits at once.
    """
    from opscore.actors.errors import ActorError
    from opscore.gateway import service
    from opscore.gateway.process import garbage, telemetry
    from opscore.gateway.server.server import Address, CannotListen
    from opscore.runtime.errors import CommitUncertain, OpscoreError, StoreDamaged, StoreError, StoreFull

    telemetry.configure(settings)
    stray = config.stray_variables(os.environ)
    if stray is not None:
        _log.warning("%s", stray)
    garbage.collect_seldom()

    def announce(address: Address) -> None:
        _log.info("listening on %s, data in %s", address.url, settings.data)
        # Not earlier: a start that fails must not leave a key behind that nobody noticed.
        _print_first_key(keys)

    with _after_the_log(), _misused_on(ConfigError, KeysError, CannotListen):
        keys = _open_keys(settings)
        config.check_exposure(settings, keys)
        try:
            code = service.serve(settings, keys, announce)
        except (CommitUncertain, StoreDamaged, StoreFull) as error:
            raise Failed(str(error)) from error
        except StoreError as error:
            raise Misused(str(error)) from error
        except (OpscoreError, ActorError) as error:
            raise Failed(str(error)) from error
    sys.exit(code)


@contextmanager
def _after_the_log() -> Iterator[None]:
    """Write out the log before the server's last error message, which is left out if nobody reads the output."""
    from opscore.gateway.process import telemetry

    try:
        yield
    except Failed as error:
        if not telemetry.flush():
            # Writing the message would block for ever, and a supervisor that restarts the server waits for its end.
            sys.exit(error.exit_code)
        raise


def _open_keys(settings: Settings) -> KeyRing:
    try:
        make_directory(settings.data)
    except OSError as error:
        raise ConfigError(
            f"data = {str(settings.data)!r} can't be created as a directory: {error.strerror}."
        ) from error
    return KeyRing(settings.data, configured=str(settings.api_key) if settings.api_key else None)


def _check_data(settings: Settings) -> None:
    try:
        is_directory = settings.data.is_dir()
    except OSError as error:
        raise ConfigError(f"data = {str(settings.data)!r} can't be accessed: {error.strerror}.") from error
    if not is_directory:
        raise ConfigError(f"data = {str(settings.data)!r} is not a directory.")


def _print_first_key(keys: KeyRing) -> None:
    from opscore.gateway.process import telemetry

    token = keys.create_first()
    if token is not None:
        with _shown_or_none(keys, token):
            if not telemetry.flush():
                raise BlockingIOError(errno.EAGAIN, "nobody reads it")
            said = f"No API key was configured, so one was created. It is shown only once, so keep it:\n\n  {token}\n"
            click.echo(said, err=True)


@contextmanager
def _shown_or_none(keys: KeyRing, token: str) -> Iterator[None]:
    """Revoke a key that could not be shown: nobody could use it, yet it would count as a key."""
    try:
        yield
    except OSError as error:
        keys.revoke(token.split("_")[1])
        raise Failed(f"the key could not be shown and was revoked: the output: {error.strerror}") from error


@main.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 50), metavar="N",
              help="Runs of the wider workflow.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the data directory, and print its path.")
@click.option("--plain", is_flag=True, help="Print a plain transcript instead of the live display.")
def demo(runs: int, keep: bool, plain: bool) -> None:  # noqa: FBT001 (click passes options by name)
    """Watch workflows run across three agents and survive a kill -9."""
    from opscore.gateway.demo.run import main as run_demo

    sys.exit(run_demo(runs=runs, keep=keep, plain=plain))


main.add_command(simulate_command.simulate)
main.add_command(workflow_commands.workflow)
store_commands.register(main)


@main.group()
def key() -> None:
    """Create, list and revoke API keys."""


@key.command("create")
@config.options_for("data")
@click.option("--scope", required=True, help="admin, operator, agent, agent:<id> or viewer.")
@click.option("--name", default="", help="A name for people to recognize the key by.")
def create_key(settings: Settings, scope: str, name: str) -> None:
    """Create a key and print it, once; a running server accepts it within a second."""
    with _misused_on(KeysError):
        keys = KeyRing(settings.data)
        token = keys.create(name or scope, scope)
        with _shown_or_none(keys, token):
            click.echo(token)


@key.command("list")
@config.options_for("data", texts=config.DATA_THERE)
def list_keys(settings: Settings) -> None:
    """List the keys, without their secrets."""
    with _misused_on(KeysError, ConfigError):
        _check_data(settings)
        for row in KeyRing(settings.data).list():
            click.echo(f"{row.id}  {row.scope:<16}  {row.created_at}  {row.name}")


@key.command("revoke")
@config.options_for("data", texts=config.DATA_THERE)
@click.argument("key_id")
def revoke_key(settings: Settings, key_id: str) -> None:
    """Revoke a key by its id."""
    with _misused_on(KeysError, ConfigError):
        _check_data(settings)
        revoked = KeyRing(settings.data).revoke(key_id)
    click.echo(f"revoked {revoked.id} ({revoked.name})")


@contextmanager
def _misused_on(*errors: type[Exception]) -> Iterator[None]:
    """End the command with exit code 2 and the error's message."""
    try:
        yield
    except errors as error:
        raise Misused(str(error)) from error
