"""The program behind scripts/conformance: plays the scenarios, prints a table, exits 1 on any failure."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hyrex_broker.embedded import EmbeddedPostgres
from tests.conformance.cluster import Cluster
from tests.conformance.languages import LANGUAGES
from tests.conformance.suite import Result, Suite, Verdict, load_scenarios
from tests.conformance.table import as_json, as_markdown, as_text
from tests.support.postgres import _execute, migrate_now, run_apart, with_database


async def run(
    database_url: str, languages: list[str], names: list[str], second_url: str = ""
) -> list[Result]:
    """Play these scenarios on brokers of their own; with a second database through a gateway."""
    cluster = Cluster(database_url, second_url)
    try:
        return await Suite(cluster).run([LANGUAGES[name] for name in languages], load_scenarios(names))
    finally:
        await cluster.end()


@contextmanager
def second_cell(url: str) -> Iterator[str]:
    """Another migrated database on a server."""
    run_apart(_execute(url, "CREATE DATABASE second_cell"))
    second = with_database(url, "second_cell")
    migrate_now(second)
    yield second


def main() -> int:
    """Run the suite as the command line says."""
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lang", default=",".join(LANGUAGES), help="of python,go,ts,java,rust; default: all")
    parser.add_argument("--scenario", default="", help="names separated by commas; default: all")
    parser.add_argument("--gateway", action="store_true", help="clients go through a gateway to two cells")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of each language here")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, as Markdown")
    arguments = parser.parse_args()
    languages = arguments.lang.split(",")
    if unknown := sorted(set(languages) - LANGUAGES.keys()):
        parser.error(f"no language {unknown[0]!r}; there are {', '.join(LANGUAGES)}")
    with EmbeddedPostgres(durable=False) as server:
        migrate_now(server.url)
        names = [one for one in arguments.scenario.split(",") if one]
        with second_cell(server.url) if arguments.gateway else nullcontext("") as second:
            results = asyncio.run(run(server.url, languages, names, second))
    print(as_text(results))
    if arguments.json:
        arguments.json.write_text(as_json(results))
    if arguments.table:
        arguments.table.write_text(as_markdown(results))
    return 1 if any(result.verdict is Verdict.FAILED for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
