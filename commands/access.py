"""``access``: who may do what on the broker."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from commands.shared import load_city, run, with_broker
from connectors import cities
from models.errors import EXIT_FAILED


@click.command(epilog="Example: tilannekuva access helsinki turku --apply --broker kafka1:9093")
@click.argument("names", metavar="[CITY]...", nargs=-1)
@click.option("--apply", "do", flag_value="apply", help="Grant what is missing and set the quotas.")
@click.option(
    "--check", "do", flag_value="check", help="Compare the broker with the table; exit 1 where a right is missing or too many are granted."
)
@click.option("--revoke", "gone", metavar="USER", help="Take every right from a user, whoever granted it.")
@with_broker
def access(names: tuple[str, ...], do: str | None, gone: str | None, broker: str) -> None:
    """Users, their rights (ACLs) and quotas; on the broker with --apply and --check, as its administrator.

    With --apply, a user whose password is in the environment (TILANNEKUVA_PASSWORD_<USER>, e.g. TILANNEKUVA_PASSWORD_CONNECT_TURKU) is made, or given that password.
    """
    from models import access as table
    from streams import access_admin

    chosen = [load_city(n) for n in names or cities.names()]
    wanted = [*(r for c in chosen for r in table.rules(c.name, c.raw_of)), *table.shared_rules()]
    if do is None and gone is None:
        for r in wanted:
            click.echo(str(r))
        for q in table.QUOTAS:
            click.echo(
                f"{q.user} reads at most {q.consumer_bytes_s:,} and writes at most {q.producer_bytes_s:,} bytes a second at a broker"
            )
        return
    bad: list[str] = []

    async def main(stop: asyncio.Event) -> None:
        if gone is not None:
            click.echo(f"{await access_admin.revoke(broker, gone)} rights taken from {gone}")
            return
        if do == "check":
            missing, extra, quotas = await access_admin.check(broker, wanted, table.QUOTAS)
            bad.extend(
                [f"missing {r}" for r in missing] + [f"beyond  {e}" for e in extra] + [f"quota   of {q.user} differs" for q in quotas]
            )
            return
        users = sorted({r.user for r in wanted})
        passwords = {u: os.environ[table.password_env(u)] for u in users if os.environ.get(table.password_env(u))}
        if passwords:
            await access_admin.set_passwords(broker, passwords)
            click.echo(f"passwords set of {', '.join(passwords)}")
        granted, quotas = await access_admin.apply(broker, wanted, table.QUOTAS)
        for line in [*(f"granted {r}" for r in granted), *(f"quota   of {q.user} set" for q in quotas)]:
            click.echo(line)

    try:
        run(main)
    except RuntimeError as e:
        click.echo(f"access: {e}", err=True)
        sys.exit(EXIT_FAILED)
    for line in bad:
        click.echo(line)
    if bad:
        sys.exit(EXIT_FAILED)
    if gone is None:
        click.echo(f"{len(wanted)} rights and {len(table.QUOTAS)} quotas are as defined")
