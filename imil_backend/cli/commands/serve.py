"""`imil serve`."""

from __future__ import annotations

import typer

from imil_backend.cli.helpers.console import command, open_backend


@command("serve")
def serve(context: typer.Context) -> None:
    """Run the web process, which receives webhooks and answers predictions. Run `imil worker` beside it.

    It listens on IMIL_HOST:IMIL_PORT (127.0.0.1:9090). Any address but loopback requires Basic auth:
    IMIL_BASIC_AUTH_USER and IMIL_BASIC_AUTH_PASSWORD.
    """
    from imil_backend.server.run import serve as run_server

    with open_backend(context) as backend:
        settings = backend.settings
    run_server(settings)
