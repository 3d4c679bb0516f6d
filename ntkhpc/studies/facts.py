"""What the files of a study's data tell, which is found out before a run is made of it."""

from pathlib import Path

from msgspec import structs

from ntkhpc.errors import StudyError
from ntkhpc.phase.settings import unruled
from ntkhpc.studies.base import S


def resolve(study: S, folder: Path) -> S:
    """The study with absolute paths, those of its user being relative to `folder`, and with what its files tell.

    A study of changed files has another id. Raises DataError for files that are not there or cannot be used.
    """
    data = study.data.located(folder)
    found = data.examine()
    try:
        return structs.replace(study, data=data, facts=None if found == data.facts() else found)
    except ValueError as error:  # a rule of the kind about inputs or outputs
        raise StudyError(str(error), where=f"study {study.name}") from error


def unresolved(study: S, folder: Path) -> S:
    """The study as its user wrote it, but for paths, which are absolute; no file is opened.

    Today's rules for study files are not asked: it may be the study of a run that older code made.
    """
    with unruled():
        return structs.replace(study, data=study.data.located(folder), facts=None)
