"""This module holds the command `check`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from unitwork.cli._output import json_option, say, show
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@click.option("--explain", is_flag=True, help="Also warn of queries that read large tables as a whole.")
@json_option
@with_database
async def command(database: Database, *, explain: bool, as_json: bool) -> None:
    """Check the declared queries of a program against its database.

    Tables, columns and functions exist, the types of parameters fit their annotations, and the columns of
    results fit what the queries promise. No query is run. What the database does not tell before it
    runs a query is listed as not checked. The queries are those of the modules that --app imports. The
    exit code is 1 if a query is wrong; warnings, and what is not checked, do not count.
    """
    report = await database.check(explain=explain)
    if not report.queries:
        say("No query is declared. Fix: name with --app a module that imports the repositories.")
    findings = [
        {**dataclasses.asdict(finding), "severity": finding.severity.value} for finding in report.findings
    ]
    data = {
        "database": report.database,
        "queries": list(report.queries),
        "findings": findings,
        "unchecked": [dataclasses.asdict(each) for each in report.unchecked],
    }
    show(data, as_json=as_json, text=str(report))
    if not report.ok:
        click.get_current_context().exit(1)
