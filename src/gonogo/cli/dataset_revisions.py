"""``gonogo dataset revisions``, ``compare``, ``restore``, ``remove``, ``prune``: the history of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.dataset import Changes, Dataset, Revision

Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Who = Annotated[
    str | None, typer.Option(help="Name of the person, for the list. [default: the user]", show_default=False)
]
_SHOWN = 20


def revisions_command(
    dataset: Folder,
    last: Annotated[int, typer.Option(min=1, help="Largest number of revisions to list.")] = _SHOWN,
    check: Annotated[
        bool, typer.Option("--check", help="Also verify the list, and the hash of every picture and mask.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the revisions of a data set, the latest first. Exit code 1 if --check finds a difference."""
    from gonogo.dataset import Dataset, catch_up, records_at, revisions
    from gonogo.dataset.history import verify_chain, verify_files
    from gonogo.errors import UnfitError

    Dataset.read(dataset)
    newest = catch_up(dataset)
    found = revisions(dataset, last=last)[::-1]
    faults = []
    if check and newest is not None:
        faults = [*verify_chain(dataset), *verify_files(dataset, records_at(dataset, newest.number))]
    if as_json:
        rows = [_row(each) for each in found]
        print_json({"dataset": str(dataset), "revisions": rows, "faults": faults if check else None})
    else:
        for each in found:
            typer.echo(_line(each))
        if not found:
            typer.echo(f"{dataset}: no revisions: the data set is empty, or may not be written.")
        elif found[-1].number > 1:
            typer.echo(f"{found[-1].number - 1} earlier ones: --last {found[0].number}")
        if check and not faults:
            typer.echo("The list is intact, and every picture and mask is as it came into the data set.")
    if faults:
        shown = "\n  ".join(faults[:_SHOWN])
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UnfitError(f"{dataset}: {len(faults)} differences:\n  {shown}{more}")


def compare_command(
    dataset: Folder,
    first: Annotated[int, typer.Argument(min=1, help="Number of the earlier revision.")],
    second: Annotated[
        int | None,
        typer.Argument(min=1, help="The later revision. [default: the last]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what differs between two revisions: pictures added, removed, relabelled, moved and remasked."""
    from gonogo.dataset import Dataset, catch_up, compare

    Dataset.read(dataset)
    newest = catch_up(dataset)
    second = second or (newest.number if newest is not None else first)
    changes = compare(dataset, first, second)
    if as_json:
        content = {
            "dataset": str(dataset),
            "from": first,
            "to": second,
            "counts": changes.counts(),
            **changes.to_json(),
        }
        print_json(content)
        return
    _print_changes(changes)


def restore_command(
    dataset: Folder,
    revision: Annotated[int, typer.Argument(min=1, help="Number of the revision to bring back.")],
    without_missing: Annotated[
        bool, typer.Option("--without-missing", help="Leave out pictures that were pruned, instead of refusing.")
    ] = False,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Bring an earlier revision back, as a new one. Nothing is deleted: the revisions in between can come back too."""
    from gonogo.dataset import catch_up, describe_counts, restore_revision

    before = catch_up(dataset)
    done = restore_revision(dataset, revision, who=who, without_missing=without_missing)
    made = done.revision
    changed = before is None or made.number != before.number
    if as_json:
        print_json({**_row(made), "restored": revision, "left_out": done.left_out, "changed": changed})
        return
    if not changed:
        typer.echo(f"The data set equals revision {revision} already.")
        return
    typer.echo(f"Revision {revision} is back, as revision {made.name}: {describe_counts(made.counts)}.")
    if done.left_out:
        typer.echo(f"{len(done.left_out)} pictures are gone and were left out.")


def remove_command(
    dataset: Folder,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="File names as in metadata.jsonl.")],
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Remove pictures from a data set. The files stay until `gonogo dataset prune`, so restore brings them back."""
    from gonogo.dataset import remove_pictures

    made = remove_pictures(dataset, files, who=who)
    assert made is not None, "at least one picture was removed"
    if as_json:
        print_json(_row(made))
        return
    typer.echo(f"Removed {len(set(files))} pictures, as revision {made.name}. Back: gonogo dataset restore")


def prune_command(
    dataset: Folder,
    keep: Annotated[int, typer.Option(min=1, help="Number of latest revisions that can still be restored.")] = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be deleted, but delete nothing.")
    ] = False,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Delete pictures and masks that only older revisions name."""
    from gonogo.dataset import prune

    done = prune(dataset, keep=keep, who=who, dry_run=dry_run)
    if as_json:
        print_json({"files": done.files, "freed_bytes": done.freed_bytes, "dry_run": dry_run})
        return
    verb = "Would delete" if dry_run else "Deleted"
    typer.echo(f"{verb} {len(done.files)} files ({done.freed_bytes / 1e6:.1f} MB) that only older revisions name.")


def say_revision(data: Dataset, out: Path) -> None:
    """Print the revision that a training run reads, and what changed since the bundle that it replaces."""
    from gonogo import bundle as bundles
    from gonogo.dataset import catch_up, revision_of

    catch_up(data.root)
    now = revision_of(data)
    if now is None:
        return
    _say(f"Data set: revision {now.name} of {data.root}.")
    if (out / bundles.SEAL).is_file():
        trained = bundles.read_bundle(out).manifest.data_revision
        if trained is not None:
            _say_since(data.root, trained.number, trained.sha256, f"{out} was trained on revision {trained.number}")


def say_changed_since(data: Dataset) -> None:
    """Say if the data set was changed while a training run read it."""
    from gonogo.dataset import catch_up, revision_of

    read, newest = revision_of(data), catch_up(data.root)
    if read is not None and newest is not None and newest.number != read.number:
        _say_since(data.root, read.number, read.sha256, f"The bundle was trained on revision {read.number}")


def _say_since(root: Path, number: int, sha256: str, start: str) -> None:
    from gonogo.dataset import compare, describe_counts, revisions

    known = revisions(root)
    if number > len(known) or known[number - 1].sha256 != sha256:
        return  # of another data set
    changes = compare(root, number, known[-1].number)
    _say(f"{start}; changed since: {describe_counts(changes.counts())} (revision {known[-1].number}).")


def _say(sentence: str) -> None:
    from gonogo.progress import console

    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _row(revision: Revision) -> dict[str, Any]:
    return revision.model_dump(mode="json", exclude={"changed", "removed", "files", "order"})


def _line(revision: Revision) -> str:
    from gonogo.dataset import describe_counts

    at = revision.at.astimezone().strftime("%Y-%m-%d %H:%M")
    who = revision.who or "-"
    shown = f"{revision.pictures} pictures; {describe_counts(revision.counts)}"
    return f"{revision.number:>5}  {revision.sha256[:12]}  {at}  {who:12.24}  {revision.what:12}{shown}"


def _print_changes(changes: Changes) -> None:
    from gonogo.dataset import describe_counts

    typer.echo(f"{describe_counts(changes.counts())}.")
    for name, content in changes.to_json().items():
        for each in content[:_SHOWN]:
            if isinstance(each, str):
                typer.echo(f"  {name:10}  {each}")
            else:
                typer.echo(f"  {name:10}  {each['file']}: {each['before']} -> {each['after']}")
        if len(content) > _SHOWN:
            typer.echo(f"  {name:10}  and {len(content) - _SHOWN} more (--json lists all)")
