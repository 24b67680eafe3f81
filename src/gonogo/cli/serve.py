"""``gonogo serve``: serve the web pages of a workspace."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.trust import RequireSignatureOption, TrustStoreOption


def serve_command(
    workspace: Annotated[
        Path, typer.Argument(help="Folder of data sets, inspectors and the ledger; created if it does not exist.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate chain (PEM); serves HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name that browsers may use besides the address; may be repeated.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a trusted reverse proxy (X-Forwarded-For, X-Forwarded-Proto); may be repeated."
        ),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port for KServe requests over gRPC; without it, only REST.")
    ] = None,
    open_models: Annotated[
        bool,
        typer.Option("--open-models", help="Answer KServe requests, which give scores, also without a key."),
    ] = False,
    key_rate: Annotated[
        float, typer.Option(min=0.01, max=100_000, help="Requests per second that each program's key may send.")
    ] = 100.0,
    directory: Annotated[
        Path | None,
        typer.Option(help="Settings (TOML) of an LDAP directory that people may log in with; see docs/server.md."),
    ] = None,
    audit_pictures: Annotated[
        bool, typer.Option("--audit-pictures", help="Record in the ledger who reads which picture of a part.")
    ] = False,
    device: DeviceOption = None,
    require_signature: RequireSignatureOption = False,
    trust_store: TrustStoreOption = None,
) -> None:
    """Serve the web pages and the HTTP interface for programs.

    The first start prints a one-time password for the administrator.
    """
    import uvicorn

    from gonogo.config import use_setting
    from gonogo.server import Options, Workspace, create_app
    from gonogo.server.auth.directory import Directory, read_directory
    from gonogo.server.auth.setup import first_administrator
    from gonogo.server.connections import ConnectionLimits, parse_networks, tls_context, uvicorn_options

    _require_tls_files(tls_cert, tls_key)
    limits = ConnectionLimits(proxies=parse_networks(proxy or ()))
    context = None if tls_cert is None or tls_key is None else tls_context(tls_cert, tls_key)
    options = Options(
        names=(*(name or ()), host),
        tls=tls_cert is not None,
        open_models=open_models,
        key_rate_per_s=key_rate,
        directory=None if directory is None else Directory(read_directory(directory)),
        audit_pictures=audit_pictures,
    )
    app = create_app(Workspace.open(workspace), options=options)
    password = first_administrator(app.state.components.accounts, app.state.components.ledger_pool)
    if password is not None:
        typer.echo(_welcome(password))
    use_setting("confine_decoding", "true")
    typer.echo(f"Serving {workspace} on {'https' if options.tls else 'http'}://{host}:{port}")
    with contextlib.ExitStack() as until_end:
        if grpc_port is not None:
            from gonogo.server.kserve.grpc_server import GrpcServer

            tls = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
            components = app.state.components
            grpc = GrpcServer(components, host=host, port=grpc_port, tls=tls, open_models=open_models)
            until_end.callback(grpc.start().close)
        uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=3, **uvicorn_options(limits, tls=context))


def _require_tls_files(tls_cert: Path | None, tls_key: Path | None) -> None:
    from gonogo.errors import InputError

    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key: expected both or neither, found one.")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise InputError(f"{file}: expected a PEM file, found no such file.")


def _welcome(password: str) -> str:
    return f"Name: admin\nOne-time password: {password}\nIt is shown only once and must be changed at the first login."
