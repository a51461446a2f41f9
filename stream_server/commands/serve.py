"""`nerf-lipsync serve`: front, media workers and engine, until interrupted."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Annotated

import typer

from kernels.native import cpu_info
from stream_server.cluster.settings import ClusterSettings
from stream_server.commands.encoder import Models, Whisper, whisper_path
from stream_server.commands.render import mark_instance
from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError

_NETWORK, _VOICES, _HONEST, _OPERATION = "network", "voices for /speech", "marks and consent", "operation"
_CLUSTER = "cluster"


def serve(
    host: Annotated[str, typer.Option(help="address to listen on; beyond loopback it needs --token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 picks a free one")] = 8080,
    avatar: Annotated[str | None, typer.Option(help="name or folder; the shipped one if not given")] = None,
    avatars: Annotated[str | None, typer.Option(help="folder of more avatar folders to choose from")] = None,
    backgrounds: Annotated[str | None, typer.Option(help="folder of pictures that callers may choose")] = None,
    avatar_memory_mb: Annotated[int, typer.Option(help="memory for avatars that are kept loaded")] = 512,
    models: Models = None,
    whisper: Whisper = None,
    size: Annotated[int, typer.Option(help="largest picture size in pixels: 128, 192 or 256")] = 256,
    exact_size: Annotated[bool, typer.Option("--exact-size", help="this size even if it is not held")] = False,
    steps: Annotated[int, typer.Option(help="sampler steps per hop")] = 2,
    threads: Annotated[int, typer.Option(help="threads of the renderer")] = 1,
    isa: Annotated[
        str, typer.Option(envvar="NERF_LIPSYNC_ISA", help="level of the renderer; auto measures this machine's")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="cuda: everything on the GPU; cpu; auto: the CPU, with a GPU for the speech encoder")
    ] = "auto",
    temperature: Annotated[float, typer.Option(help="0: the mean motion; 1: a sample")] = 0.0,
    low_latency: Annotated[
        bool, typer.Option("--low-latency", help="hops of 40 ms and as much look-ahead: 80 ms sooner, lips worse")
    ] = False,
    timecode: Annotated[bool, typer.Option("--timecode", help="draw each frame's media position")] = False,
    token: Annotated[str | None, typer.Option(envvar="NERF_LIPSYNC_TOKEN", help="needed beyond loopback")] = None,
    max_sessions: Annotated[int, typer.Option(help="places; 0: as many as this machine is measured to hold")] = 0,
    workers: Annotated[int, typer.Option(help="media worker processes, about one for six callers")] = 1,
    udp_ports: Annotated[str | None, typer.Option(help="A-B: the range for media", rich_help_panel=_NETWORK)] = None,
    advertise_ip: Annotated[
        str | None,
        typer.Option(help="address that callers reach, behind a gateway", rich_help_panel=_NETWORK),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="name this server answers to; may be repeated", rich_help_panel=_NETWORK),
    ] = None,
    turn_url: Annotated[
        list[str] | None, typer.Option(help="turn:host:port?transport=udp; may be repeated", rich_help_panel=_NETWORK)
    ] = None,
    turn_secret: Annotated[
        str | None,
        typer.Option(envvar="NERF_LIPSYNC_TURN_SECRET", help="coturn's static-auth-secret", rich_help_panel=_NETWORK),
    ] = None,
    offers_per_minute: Annotated[int, typer.Option(help="sessions one caller may open", rich_help_panel=_NETWORK)] = 60,
    piper_model: Annotated[str | None, typer.Option(help="a piper voice (.onnx)", rich_help_panel=_VOICES)] = None,
    speech_url: Annotated[
        str | None, typer.Option(help="an OpenAI-compatible .../v1/audio/speech", rich_help_panel=_VOICES)
    ] = None,
    speech_model: Annotated[str, typer.Option(help="its model", rich_help_panel=_VOICES)] = "tts-1",
    speech_voice: Annotated[str, typer.Option(help="its voice", rich_help_panel=_VOICES)] = "alloy",
    speech_key: Annotated[
        str | None, typer.Option(envvar="NERF_LIPSYNC_SPEECH_KEY", help="its key", rich_help_panel=_VOICES)
    ] = None,
    visible_mark: Annotated[
        bool, typer.Option(help="the label that says the picture is synthetic", rich_help_panel=_HONEST)
    ] = True,
    mark_text: Annotated[str, typer.Option(help="what the label says", rich_help_panel=_HONEST)] = "AI",
    invisible_mark: Annotated[
        bool, typer.Option(help="the mark that `mark detect` finds", rich_help_panel=_HONEST)
    ] = True,
    instance_id: Annotated[
        int | None,
        typer.Option(help="0..16777215, in the invisible mark; else the installation's own", rich_help_panel=_HONEST),
    ] = None,
    mark_key: Annotated[
        str | None,
        typer.Option(
            envvar="NERF_LIPSYNC_MARK_KEY", help="file with the invisible mark's key", rich_help_panel=_HONEST
        ),
    ] = None,
    revoked: Annotated[
        str | None,
        typer.Option(
            envvar="NERF_LIPSYNC_REVOKED",
            help="file of consent or field hashes no longer served",
            rich_help_panel=_HONEST,
        ),
    ] = None,
    trusted_keys: Annotated[
        str | None, typer.Option(help="file of keys that must have signed consent", rich_help_panel=_HONEST)
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(help="record every call into this folder; callers are told", rich_help_panel=_OPERATION),
    ] = None,
    record_quota_mb: Annotated[
        int, typer.Option(help="what recordings may hold together; 0: no limit", rich_help_panel=_OPERATION)
    ] = 10_000,
    encoder: Annotated[
        str, typer.Option(help="video encoder that must be used; doctor lists them", rich_help_panel=_OPERATION)
    ] = "auto",
    virtual_camera: Annotated[
        bool,
        typer.Option(
            "--virtual-camera",
            help="show one session's picture as a camera of this machine; its caller is told",
            rich_help_panel=_OPERATION,
        ),
    ] = False,
    camera_device: Annotated[
        str | None, typer.Option(help="/dev/videoN of v4l2loopback; else the first", rich_help_panel=_OPERATION)
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(help="loopback port for Prometheus; 0: none", rich_help_panel=_OPERATION)
    ] = 0,
    standby: Annotated[
        bool, typer.Option(help="keep a second engine imported, to take over sooner", rich_help_panel=_OPERATION)
    ] = True,
    log_level: Annotated[
        str, typer.Option(help="DEBUG, INFO, WARNING or ERROR", rich_help_panel=_OPERATION)
    ] = "WARNING",
    log_format: Annotated[str, typer.Option(help="text or json", rich_help_panel=_OPERATION)] = "text",
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster", help="avatar workers on a Ray cluster; see docs/scaling.md", rich_help_panel=_CLUSTER
        ),
    ] = False,
    cluster_address: Annotated[
        str, typer.Option(help="Ray's address; auto: the cluster this node is in", rich_help_panel=_CLUSTER)
    ] = "auto",
    min_replicas: Annotated[int, typer.Option(help="avatar workers at least", rich_help_panel=_CLUSTER)] = 1,
    max_replicas: Annotated[int, typer.Option(help="avatar workers at most", rich_help_panel=_CLUSTER)] = 1,
    replica_cpus: Annotated[float, typer.Option(help="CPUs of an avatar worker", rich_help_panel=_CLUSTER)] = 1.0,
    replica_gpus: Annotated[float, typer.Option(help="GPUs of an avatar worker", rich_help_panel=_CLUSTER)] = 0.0,
    upscale_delay: Annotated[
        float, typer.Option(help="seconds of load before a worker is added", rich_help_panel=_CLUSTER)
    ] = 5.0,
    downscale_delay: Annotated[
        float, typer.Option(help="seconds of too little load before one goes", rich_help_panel=_CLUSTER)
    ] = 300.0,
    connect_timeout: Annotated[float, typer.Option(hidden=True, help="seconds a caller has to connect")] = 15.0,
    pipeline: Annotated[str | None, typer.Option(hidden=True, help="tests only: module:class of a stand-in")] = None,
) -> None:
    """Start the server; prints `ready URL` when it takes sessions. Open the URL, press Start and speak."""
    checkpoint = whisper_path(whisper)
    config = ServerConfig(
        host=host,
        port=port,
        avatar=avatar,
        avatars=avatars,
        backgrounds=backgrounds,
        avatar_memory_mb=avatar_memory_mb,
        models=None if models is None else str(models),
        whisper=None if checkpoint is None else str(checkpoint),
        size=size,
        exact_size=exact_size,
        steps=steps,
        threads=threads,
        instruction_set=_instruction_set(isa),
        device=device,
        temperature=temperature,
        low_latency=low_latency,
        timecode=timecode,
        token=token,
        max_sessions=max_sessions,
        workers=workers,
        udp_ports=_ports(udp_ports),
        advertise_ip=advertise_ip,
        allowed_hosts=tuple(allowed_host or ()),
        turn_urls=tuple(turn_url or ()),
        turn_secret=turn_secret,
        offers_per_minute=offers_per_minute,
        piper_model=piper_model,
        speech_url=speech_url,
        speech_model=speech_model,
        speech_voice=speech_voice,
        speech_key=speech_key,
        visible_mark=visible_mark,
        mark_text=mark_text,
        mark_instance=mark_instance(instance_id, not invisible_mark) if pipeline is None else None,
        mark_key=mark_key,
        revoked=revoked,
        trusted_keys=trusted_keys,
        record=record,
        record_quota_mb=record_quota_mb,
        encoder=encoder,
        virtual_camera=virtual_camera,
        camera_device=camera_device,
        connect_timeout_s=connect_timeout,
        metrics_port=metrics_port,
        standby=standby,
        log_level=log_level.upper(),
        log_format=log_format.lower(),
        pipeline=pipeline,
    )
    _check_piper(piper_model)
    if virtual_camera and importlib.util.find_spec("pyvirtualcam") is None:
        raise ServerConfigError("--virtual-camera needs pyvirtualcam: pip install 'nerf-lipsync[camera]'")
    if cluster:
        settings = ClusterSettings(
            address=cluster_address,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            replica_cpus=replica_cpus,
            replica_gpus=replica_gpus,
            upscale_delay_s=upscale_delay,
            downscale_delay_s=downscale_delay,
        )
        raise typer.Exit(_on_a_cluster(config, settings))
    from stream_server.serve import run_server

    raise typer.Exit(run_server(config))


def _on_a_cluster(config: ServerConfig, settings: ClusterSettings) -> int:
    if importlib.util.find_spec("ray") is None:
        raise ServerConfigError("--cluster needs Ray: pip install 'nerf-lipsync[cluster]'")
    from stream_server.cluster.run import run_cluster

    return run_cluster(config, settings)


def _check_piper(model: str | None) -> None:
    if model is None:
        return
    for file in (model, f"{model}.json"):
        if not Path(file).is_file():
            raise ServerConfigError(f"--piper-model {model}: there is no file {file}")
    if shutil.which("piper") is None:
        raise ServerConfigError("--piper-model needs the program piper: pip install piper-tts")


def _ports(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit()):
        raise ServerConfigError(f"--udp-ports must be A-B, for example 50000-50100, got {text!r}")
    return int(first), int(last)


def _instruction_set(name: str) -> str:
    if name != "auto" and name not in cpu_info().instruction_sets:
        raise ServerConfigError(f"--isa must be auto or one of {cpu_info().instruction_sets}, got {name!r}")
    return name


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(serve)
