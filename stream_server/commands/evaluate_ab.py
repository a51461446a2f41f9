"""`nerf-lipsync evaluate ab-page | ab-stats`: people judge two methods blindly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.evaluation.ab_stats import Preference, Share
    from model.results import Figure


def ab_page(
    a: Annotated[Path, typer.Argument(help="folder of videos of method A")],
    b: Annotated[Path, typer.Argument(help="folder of videos of method B, with the same file names")],
    out: Annotated[Path, typer.Option(help="folder of the page; its key is written beside it, as OUT.key.json")],
    seed: Annotated[int, typer.Option(help="of the order of pairs and sides")] = 0,
    question: Annotated[str | None, typer.Option(help="what raters are asked")] = None,
) -> None:
    """A blind A/B page: hand out the folder, keep the key, collect the files that raters save."""
    from model.evaluation.ab_page import QUESTION, write_ab_page

    page = write_ab_page(a, b, out, seed=seed, question=question or QUESTION)
    typer.echo(f"{page.index}: {page.pairs} pairs; keep {page.key} from the raters")


def ab_stats(
    answers: Annotated[list[Path], typer.Argument(help="files that raters saved")],
    key: Annotated[list[Path], typer.Option(help="key of the page; give it again for each further page")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Preference for A with its exact interval, and how far the raters agree."""
    from model.evaluation.ab_stats import ab_preference, read_votes
    from model.results import new_results, write_results

    votes = read_votes(answers, key)
    found = ab_preference(votes)
    typer.echo(_line("votes for A", found.votes))
    typer.echo(_line("clips whose majority is for A", found.clips))
    alpha = "not defined" if found.alpha is None else f"{found.alpha:.3f}"
    typer.echo(f"undecided votes: {found.undecided}; raters: {found.raters}; agreement (Krippendorff's alpha): {alpha}")
    if json is not None:
        command = "nerf-lipsync evaluate ab-stats ANSWERS --key KEY"
        data = f"{found.raters} raters, {len({vote.clip for vote in votes})} clips"
        write_results(json, new_results(_figures(found), command=command, data=data))


def _line(what: str, share: Share) -> str:
    if not share.cases:
        return f"{what}: none decided"
    return (
        f"{what}: {share.hits} of {share.cases}, {share.value:.3f} "
        f"({share.low:.3f} to {share.high:.3f}), p = {share.p_value:.4f} against a coin"
    )


def _figures(found: Preference) -> dict[str, Figure]:
    from model.results import Figure as _Figure

    figures: dict[str, Figure] = {}
    for name, share in (("votes_for_a", found.votes), ("clips_for_a", found.clips)):
        if share.cases:
            span = (share.low, share.high)
            figures[name] = _Figure(value=share.value, unit="share", better="higher", n=share.cases, interval=span)
    figures["undecided"] = _Figure(value=float(found.undecided), unit="votes", better="lower")
    if found.alpha is not None:
        figures["agreement"] = _Figure(value=found.alpha, unit="alpha", better="higher", n=found.raters)
    return figures


def register(group: typer.Typer) -> None:
    """Add the commands to the `evaluate` group."""
    group.command("ab-page")(ab_page)
    group.command("ab-stats")(ab_stats)
