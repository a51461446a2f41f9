"""The subcommands of `nerf-lipsync`, one small file each.

A command parses its options and calls one function of the library, imported when the command runs, so that
`nerf-lipsync --help` and `serve` never load torch. Errors meant for the user are raised as `model.errors.ModelError`
or `stream_server.errors.StreamServerError`; `stream_server.cli.main` prints them as one line and exits with 2.

A file adds itself by `register(app)`, called from `stream_server.cli`. Groups (`train`, `prepare`, `evaluate`,
`bench`) offer a typer application named `app`; a stage is one decorated function in that file.
"""
