"""``gonogo serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve_command(
    workspace: Annotated[
        Path, typer.Argument(help="Folder of data sets, inspectors and the ledger; created if missing.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A name that browsers reach it by, besides its address; repeatable.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; "
            "repeatable."
        ),
    ] = None,
) -> None:
    """Serve the pages: station, review, label, understand, people.

    The first start prints the administrator's one-time password.
    """
    import uvicorn

    from gonogo.errors import InputError
    from gonogo.server import Options, Workspace, create_app
    from gonogo.server.auth.setup import first_administrator
    from gonogo.server.connections import ConnectionLimits, parse_networks, tls_context, uvicorn_options

    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key: expected both or neither, found one.")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise InputError(f"{file}: expected a PEM file, found none.")
    limits = ConnectionLimits(proxies=parse_networks(proxy or ()))
    context = None if tls_cert is None or tls_key is None else tls_context(tls_cert, tls_key)
    options = Options(names=(*(name or ()), host), tls=tls_cert is not None)
    app = create_app(Workspace.open(workspace), options=options)
    password = first_administrator(app.state.components.accounts, app.state.components.ledger_pool)
    if password is not None:
        typer.echo(
            f"Name: admin\nOne-time password: {password}\nIt is shown this once and must be changed at first login."
        )
    typer.echo(f"Serving {workspace} on {'https' if options.tls else 'http'}://{host}:{port}")
    uvicorn.run(
        app,
        host=host,
        port=port,
        timeout_graceful_shutdown=3,
        **uvicorn_options(limits, tls=context),
    )
